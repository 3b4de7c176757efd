"""Moving-window rate limiting: shared by all processes in Redis, or in this process alone."""

import logging
import time
from typing import Any

from limits import RateLimitItem
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter

# A login waits for Redis, so the time-out is short. Its errors become StorageError.
REDIS_OPTIONS: dict[str, Any] = {"socket_timeout": 1, "socket_connect_timeout": 1, "wrap_exceptions": True}
RETRY_SECONDS = 10

logger = logging.getLogger("demo-user")


class LocalCounts(MemoryStorage):
    """Counts in this process, where one can be undone."""

    def give_back(self, key: str) -> None:
        """Remove the newest count of a key, if there is one."""
        with self.locks[key]:
            del self.events.get(key, [])[:1]


class SharedCounts(RedisStorage):
    """Counts in Redis, where one can be undone."""

    def give_back(self, key: str) -> None:
        """Remove the newest count of a key, if there is one; raises StorageError."""
        try:
            self.storage.lpop(self.prefixed_key(key))
        except self.base_exceptions as error:
            raise StorageError(error) from error


class Limiter:
    """A moving-window rate limiter that counts in this process while Redis is unavailable.

    It logs that once, retries Redis every RETRY_SECONDS, and logs when Redis is back.
    """

    def __init__(self, redis_url: str = "") -> None:
        """Count in the Redis server at a URL, or in this process if the URL is empty."""
        self.local = MovingWindowRateLimiter(LocalCounts())
        self.shared = redis_url and MovingWindowRateLimiter(SharedCounts(redis_url, **REDIS_OPTIONS))
        self.away_until = 0.0

    def hit(self, limit: RateLimitItem, *key: str) -> bool:
        """Count an event unless the limit is reached; return whether it was counted."""
        return bool(self._call("hit", limit, *key))

    def test(self, limit: RateLimitItem, *key: str) -> bool:
        """Return whether the limit allows another event."""
        return bool(self._call("test", limit, *key))

    def give_back(self, limit: RateLimitItem, *key: str) -> None:
        """Undo the newest count."""
        self._call("give_back", limit, *key)

    def reset_time(self, limit: RateLimitItem, *key: str) -> float:
        """Return when the oldest count expires, as a Unix timestamp in seconds."""
        return float(self._call("get_window_stats", limit, *key).reset_time)

    def _call(self, name: str, *arguments: Any) -> Any:
        if self.shared and time.monotonic() >= self.away_until:
            try:
                result = self._ask(self.shared, name, *arguments)
            except StorageError:
                if not self.away_until:
                    logger.warning("redis_away")
                self.away_until = time.monotonic() + RETRY_SECONDS
            else:
                if self.away_until:
                    self.away_until = 0.0
                    logger.warning("redis_back")
                return result
        return self._ask(self.local, name, *arguments)

    def _ask(self, limiter: Any, name: str, limit: RateLimitItem, *key: str) -> Any:
        if name == "give_back":
            return limiter.storage.give_back(limit.key_for(*key))
        return getattr(limiter, name)(limit, *key)
