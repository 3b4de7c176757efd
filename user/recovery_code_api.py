"""The recovery code of the user: whether there is one, a new one, none."""

from django.db import transaction
from django.utils import timezone
from utilmeta.core import api

from web.logs import log_event
from web.problems import NoContent, Problem

from . import auth
from .models import RecoveryCode, User
from .queries import lock
from .recovery_codes import hash_code, new_code
from .schema import RecoveryCodeSchema, RecoveryCodeStatusSchema


@auth.session_config.plugin
class RecoveryCodeAPI(api.API):
    """The code with which the current user gets back in after forgetting the password."""

    def get(self, user: User = auth.user_config) -> RecoveryCodeStatusSchema:
        """Return whether you have a recovery code.

        The response says when it was created, and never the code itself.
        """
        code = RecoveryCode.objects.filter(user=user).first()
        return RecoveryCodeStatusSchema(created_time=code and code.created_time)

    def post(self, user: User = auth.user_config) -> RecoveryCodeSchema:
        """Create a recovery code.

        It is shown this once, works once, and replaces an earlier one. It needs a recent login or
        reauthentication.
        """
        auth.user_config.require_fresh_login(self.request)
        text = new_code()
        with transaction.atomic():
            if not lock(user):
                raise Problem("not_logged_in")
            code, _ = RecoveryCode.objects.update_or_create(
                user=user, defaults={"code_hash": hash_code(text), "created_time": timezone.now()}
            )
        log_event(self.request, "recovery_code_created")
        return RecoveryCodeSchema(recovery_code=text, created_time=code.created_time)

    def delete(self, user: User = auth.user_config) -> NoContent:
        """Delete the recovery code.

        It needs a recent login or reauthentication.
        """
        auth.user_config.require_fresh_login(self.request)
        RecoveryCode.objects.filter(user=user).delete()
        return NoContent()
