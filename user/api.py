"""The five verbs of an account: sign up, log in, log out, get and put."""

from utilmeta.core import api

from web.json_body import JsonBody, OptionalJsonBody
from web.problems import Problem

from . import auth
from .models import User
from .schema import LoginSchema, LogoutSchema, SignupSchema, UserSchema, UserUpdateSchema
from .sessions import EndingSessionSchema


@auth.session_config.plugin
class UserAPI(api.API):
    """Sign up, log in, log out, and see or change who you are."""

    @api.post
    def signup(self, data: SignupSchema = JsonBody()) -> UserSchema:
        """Create an account and log in to it.

        The answer sets the session's cookie; an earlier session of this browser ends.
        """
        user = auth.user_config.signup(request=self.request, data=data)
        return UserSchema.init(user)

    @api.post
    def login(self, data: LoginSchema = JsonBody()) -> UserSchema:
        """Log in.

        The answer sets the session's cookie; an earlier session of this browser ends. Whether the name or the
        password was wrong is not said.
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

        The session ends and its cookie is deleted. Not being logged in is fine.
        """
        session.flush()

    def get(self, user: User = auth.user_config) -> UserSchema:
        """Return the user who is logged in.

        That is the user of the session that the cookie names, if it is not over.
        """
        return UserSchema.init(user)

    def put(self, user: User = auth.user_config, data: UserUpdateSchema = JsonBody()) -> UserSchema:
        """Change the user who is logged in.

        What is left out stays as it is. A new password ends every other session of the user, and gives this
        one a new key. Long after the login, it needs `current_password`; one that is sent must be right.
        """
        user = auth.user_config.update(request=self.request, user=user, data=data)
        return UserSchema.init(user)
