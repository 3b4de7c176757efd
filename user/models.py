"""The tables: accounts, and the sessions of the browsers that are logged in to them."""

from django.db import models
from utilmeta.core.orm.backends.django.models import AbstractSession

from .passwords import PasswordField


class User(models.Model):  # type: ignore[django-manager-missing]  # (Session's base carries no types)
    """An account."""

    username = models.CharField(max_length=20, unique=True)
    # The column is 80 characters longer than this salt may be: 128, as Django's own, which its scrypt fills.
    password = PasswordField(max_length=100, salt_length=48)
    signup_time = models.DateTimeField(auto_now_add=True)


class Session(AbstractSession):
    """A login of one browser; it ends when it is revoked (`deleted_time`) or expires (`expiry_time`)."""

    user = models.ForeignKey(User, related_name="sessions", null=True, default=None, on_delete=models.CASCADE)

    class Meta:
        """What `purgesessions` finds rows by, and a login the sessions that are too many."""

        indexes = (
            models.Index(fields=["expiry_time"], name="session_expiry_time"),
            # A login does not touch this one: a new row has not ended.
            models.Index(
                fields=["deleted_time"],
                name="session_deleted_time",
                condition=models.Q(deleted_time__isnull=False),
            ),
            models.Index(
                fields=["user", "id"], name="session_of_user", condition=models.Q(deleted_time__isnull=True)
            ),
        )


class RecoveryCode(models.Model):
    """The SHA-256 of the code with which a user gets back into an account; it works once."""

    user = models.OneToOneField(
        User, related_name="recovery_code", primary_key=True, on_delete=models.CASCADE
    )
    code_hash = models.CharField(max_length=43)
    created_time = models.DateTimeField(auto_now_add=True)
