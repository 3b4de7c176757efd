"""The endpoints under /api/passkeys."""

from utilmeta.core import api, request

from user import auth
from user.models import User
from user.schema import UserSchema
from web.problems import NoContent

from . import challenges, passkeys
from .schema import (
    AcceptedSchema,
    CreationOptionsSchema,
    NewPasskeySchema,
    PasskeyLoginSchema,
    PasskeySchema,
    PasskeyUpdateSchema,
    RequestOptionsSchema,
)


@challenges.plugin
@auth.session_config.plugin
class PasskeysAPI(api.API):
    """Passkeys: log in without a password, and see, add, rename or delete yours."""

    def get(self, user: User = auth.user_config) -> list[PasskeySchema]:
        """List your passkeys.

        The oldest comes first.
        """
        return passkeys.list_passkeys(user)

    @api.get
    def accepted(self, user: User = auth.user_config) -> AcceptedSchema:
        """Return what tells the browser which of your passkeys there are.

        Pass it to `PublicKeyCredential.signalAllAcceptedCredentials()`: the browser then offers no passkey
        that was deleted.
        """
        return passkeys.accepted(user)

    @api.post
    def registration(self, user: User = auth.user_config) -> CreationOptionsSchema:
        """Begin to add a passkey.

        Returns options for `navigator.credentials.create()`. The response sets a cookie, without which the
        challenge is not accepted. It needs a recent login or reauthentication.
        """
        return passkeys.registration_options(self.request, user)

    def post(self, user: User = auth.user_config, data: NewPasskeySchema = request.Body) -> PasskeySchema:
        """Add a passkey.

        The credential is what `navigator.credentials.create()` made, as JSON. An account has at most 20
        passkeys. It needs a recent login or reauthentication.
        """
        return passkeys.describe(passkeys.register(self.request, user, data))

    @api.put("{id}")
    def rename(
        self,
        id: int,  # noqa: A002  (the name in the path)
        user: User = auth.user_config,
        data: PasskeyUpdateSchema = request.Body,
    ) -> PasskeySchema:
        """Rename a passkey.

        The name is for you alone.
        """
        return passkeys.describe(passkeys.rename(user, id, data.name))

    @api.delete("{id}")
    def remove(
        self,
        id: int,  # noqa: A002  (the name in the path)
        user: User = auth.user_config,
    ) -> NoContent:
        """Delete a passkey.

        Nobody can log in with it any more; sessions stay as they are. It needs a recent login or
        reauthentication.
        """
        passkeys.delete(self.request, user, id)
        return NoContent()

    @api.post
    def authentication(self) -> RequestOptionsSchema:
        """Begin to log in, or to reauthenticate, with a passkey.

        Returns options for `navigator.credentials.get()`. The response sets a cookie, without which the
        challenge is not accepted. A challenge is good for 5 minutes, and once.
        """
        return passkeys.authentication_options(self.request)

    @api.post
    def login(self, data: PasskeyLoginSchema = request.Body) -> UserSchema:
        """Log in with a passkey.

        The credential is what `navigator.credentials.get()` returned, as JSON. The response sets the session
        cookie; an earlier session of this browser is revoked. An error does not say what was wrong.
        """
        return UserSchema.init(passkeys.login(self.request, data.credential))

    @api.post
    def reauthenticate(
        self, user: User = auth.user_config, data: PasskeyLoginSchema = request.Body
    ) -> UserSchema:
        """Use a passkey again, for what needs a recent login.

        The session then counts as freshly logged in. The options must have been requested in this session.
        """
        return UserSchema.init(passkeys.reauthenticate(self.request, user, data.credential))
