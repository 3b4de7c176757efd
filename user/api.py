"""The endpoints under /api/user: sign up, log in, log out, and your account."""

from utilmeta.core import api, request

from web.json_body import OptionalJsonBody
from web.problems import NoContent, Problem

from . import auth
from .models import User
from .recovery_code_api import RecoveryCodeAPI
from .schema import (
    LoginSchema,
    LogoutSchema,
    ReauthenticationSchema,
    RecoverySchema,
    SignupSchema,
    UserSchema,
    UserUpdateSchema,
)
from .sessions import EndingSessionSchema
from .sessions_api import SessionsAPI


@auth.session_config.plugin
class UserAPI(api.API):
    """Sign up, log in, log out, and see, change or delete your account."""

    sessions: SessionsAPI
    recovery_code: RecoveryCodeAPI = api.route("recovery-code")

    @api.post
    def signup(self, data: SignupSchema = request.Body) -> UserSchema:
        """Create an account and log in to it.

        The response sets the session cookie; an earlier session of this browser is revoked.
        """
        user = auth.user_config.signup(request=self.request, data=data)
        return UserSchema.init(user)

    @api.post
    def login(self, data: LoginSchema = request.Body) -> UserSchema:
        """Log in.

        The response sets the session cookie; an earlier session of this browser is revoked. An error does not
        say whether the username or the password was wrong.
        """
        user = auth.user_config.login(request=self.request, ident=data.username, password=data.password)
        if not user:
            raise Problem("invalid_credentials")
        return UserSchema.init(user)

    @api.post
    def logout(
        self, data: LogoutSchema = OptionalJsonBody(), session: EndingSessionSchema = auth.session_config
    ) -> None:
        """Log out.

        The session is revoked and its cookie is deleted. It is no error if nobody is logged in.
        """
        session.flush()

    def get(self, user: User = auth.user_config) -> UserSchema:
        """Return the current user.

        That is the user of the session that the cookie names, unless it has expired or was revoked.
        """
        return UserSchema.init(user)

    def put(self, user: User = auth.user_config, data: UserUpdateSchema = request.Body) -> UserSchema:
        """Change the username or the password of the current user.

        What is left out stays as it is. A new password revokes every other session of the user, and gives
        this one a new key. It needs a recent login, or `current_password`; one that is sent must be right.
        """
        user = auth.user_config.update(request=self.request, user=user, data=data)
        return UserSchema.init(user)

    def delete(
        self, user: User = auth.user_config, session: auth.SessionSchema = auth.session_config
    ) -> NoContent:
        """Delete the account of the current user.

        The account and everything that belongs to it is deleted, and the username is free again. It needs a
        recent login or reauthentication.
        """
        auth.user_config.delete(request=self.request, user=user)
        session.forget()
        return NoContent()

    @api.post
    def reauthenticate(
        self, user: User = auth.user_config, data: ReauthenticationSchema = request.Body
    ) -> UserSchema:
        """Enter the password again, for what needs a recent login.

        The session then counts as freshly logged in.
        """
        user = auth.user_config.reauthenticate(request=self.request, user=user, password=data.password)
        return UserSchema.init(user)

    @api.post
    def recover(self, data: RecoverySchema = request.Body) -> UserSchema:
        """Set a new password with a recovery code, and log in.

        The code is used up, and every other session is revoked.
        """
        user = auth.user_config.recover(request=self.request, data=data)
        return UserSchema.init(user)
