"""Show an account: since when it exists, its live sessions, its recovery code, and its rows of other apps."""

from datetime import datetime
from typing import Any

from django.db.models import Max

from user.management.base import UserCommand, find_user
from user.models import RecoveryCode
from user.queries import live_sessions, rows_of_other_apps


class Command(UserCommand):
    help = __doc__

    def handle(self, *args: Any, username: str, **options: Any) -> None:
        user = find_user(username)
        sessions = live_sessions().filter(user=user)
        code = RecoveryCode.objects.filter(user=user).first()
        lines = {
            "id": user.pk,
            "username": user.username,
            "signed up": in_utc(user.signup_time),
            "live sessions": sessions.count(),
            "last activity": in_utc(sessions.aggregate(last=Max("last_activity"))["last"]),
            "recovery code": in_utc(code.created_time if code else None),
            **rows_of_other_apps(user),
        }
        for name, value in lines.items():
            self.stdout.write(f"{name}: {value}")


def in_utc(time: datetime | None) -> str:
    """Return a time in UTC, to the second, or "none"."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC") if time else "none"
