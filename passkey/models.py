"""The tables: passkeys, the handles by which authenticators know users, and challenges that were used."""

from typing import Any

from django.db import models

from user.models import User


class DatabaseCascade:
    """What makes the database itself delete a row together with its user.

    Django would do that by itself, and have the database forbid the deletion to everybody else. With
    PASSKEYS=off, when Django does not know these tables, no account with a passkey could be deleted.
    """

    def __init__(self, to: Any = User, **options: Any) -> None:
        """Refer to a user."""
        super().__init__(to, **options | {"on_delete": models.DO_NOTHING, "db_constraint": False})  # type: ignore[call-arg]

    def db_type_suffix(self, connection: Any) -> str:
        """Return what CREATE TABLE has after the column's type; it is checked at COMMIT, as Django's is."""
        quote, users = connection.ops.quote_name, self.related_model._meta  # type: ignore[attr-defined]
        reference = f"REFERENCES {quote(users.db_table)} ({quote(users.pk.column)})"
        return f"{reference} ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED"


class OwnerField(DatabaseCascade, models.ForeignKey):  # type: ignore[type-arg]
    """The user to whom a row belongs."""


class OneOwnerField(DatabaseCascade, models.OneToOneField):  # type: ignore[type-arg]
    """The user to whom this one row belongs."""


class UserHandle(models.Model):
    """The 32 random bytes by which authenticators know a user, in base64url.

    They say nothing of the user (WebAuthn level 3, section 14.6.1).
    """

    user = OneOwnerField(related_name="+", primary_key=True)
    handle = models.CharField(max_length=43)


class Passkey(models.Model):
    """A public key, with which a user logs in.

    `credential_id` is in base64url, without padding, and has at most 1,023 bytes. `public_key` is a COSE_Key.
    """

    user = OwnerField(related_name="passkeys")
    credential_id = models.CharField(max_length=1364, unique=True)
    public_key = models.BinaryField()
    name = models.CharField(max_length=50)
    sign_count = models.PositiveBigIntegerField()
    backup_eligible = models.BooleanField()
    backed_up = models.BooleanField()
    created_time = models.DateTimeField(auto_now_add=True)
    last_used_time = models.DateTimeField(null=True)


class UsedChallenge(models.Model):
    """The SHA-256 of a challenge that has been used, which is kept until it would have expired."""

    challenge_hash = models.CharField(max_length=43, primary_key=True)
    expiry_time = models.DateTimeField(db_index=True)
