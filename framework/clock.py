"""The time of the service: UTC, with microseconds, in one form under every server."""

from datetime import datetime, timezone

from utilmeta.conf import Time


class UtcTime(Time):
    """UtilMeta's settings of the time, without what they work out on the way to it.

    UtilMeta asks for the time twice in a request, and each time works out the local one first.
    """

    def time_now(self, relative: datetime | None = None) -> datetime:
        """Return the time; without a zone when it is for a comparison with one without."""
        now = datetime.now(timezone.utc)
        return now.replace(tzinfo=None) if relative and not relative.tzinfo else now


TIME = UtcTime(datetime_format="%Y-%m-%dT%H:%M:%S.%fZ", time_zone="UTC", use_tz=True)
