"""Moving-window rate limiting: shared by all processes in Redis, or in this process alone."""

import logging
import threading
import time
from bisect import bisect_right
from collections import OrderedDict, defaultdict
from typing import Any

from limits import RateLimitItem
from limits.errors import StorageError
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter

# A login waits for Redis, so the time-out is short. Its errors become StorageError.
REDIS_OPTIONS: dict[str, Any] = {"socket_timeout": 1, "socket_connect_timeout": 1, "wrap_exceptions": True}
RETRY_SECONDS = 10
# Each count removes at most this many expired keys: more than the one that it may add, so that they run out.
REMOVED_AT_ONCE = 10

logger = logging.getLogger("demo-user")


class LocalCounts:
    """Counts in the memory of this process, which forgets a key once all its counts have expired.

    In place of `limits.storage.MemoryStorage`: that one keeps every key forever and goes through all of
    them after each count, in a thread that two counts at once may both start, which raises RuntimeError.
    """

    def __init__(self) -> None:
        """Start without a count."""
        self._lock = threading.Lock()
        # For each length of a window in seconds: when each key was counted, oldest first. A key that is
        # counted goes to the end, so the first keys are those whose counts expire first.
        self._windows: defaultdict[int, OrderedDict[str, list[float]]] = defaultdict(OrderedDict)

    def __len__(self) -> int:
        """Return the number of keys that take memory."""
        return sum(map(len, self._windows.values()))

    def hit(self, limit: RateLimitItem, *key: str) -> bool:
        """Count an event unless the limit is reached; return whether it was counted."""
        name, now = limit.key_for(*key), time.monotonic()
        with self._lock:
            times = self._live(limit, name, now)
            if len(times) >= limit.amount:
                return False
            times.append(now)
            window = self._windows[limit.get_expiry()]
            window[name] = times
            window.move_to_end(name)
            self._remove_expired(window, now - limit.get_expiry())
            return True

    def test(self, limit: RateLimitItem, *key: str) -> bool:
        """Return whether the limit allows another event."""
        with self._lock:
            return len(self._live(limit, limit.key_for(*key), time.monotonic())) < limit.amount

    def give_back(self, limit: RateLimitItem, *key: str) -> None:
        """Undo the newest count, if there is one."""
        name = limit.key_for(*key)
        with self._lock:
            times = self._live(limit, name, time.monotonic())
            if times:
                times.pop()
            if not times:
                self._windows[limit.get_expiry()].pop(name, None)

    def seconds_left(self, limit: RateLimitItem, *key: str) -> float:
        """Return in how many seconds the oldest count expires; 0 if there is none."""
        now = time.monotonic()
        with self._lock:
            times = self._live(limit, limit.key_for(*key), now)
            return times[0] + limit.get_expiry() - now if times else 0.0

    def reset(self) -> None:
        """Forget all counts."""
        with self._lock:
            self._windows.clear()

    def _live(self, limit: RateLimitItem, name: str, now: float) -> list[float]:
        """Return the list of when a key was counted, without what has expired."""
        times = self._windows[limit.get_expiry()].get(name, [])
        del times[: bisect_right(times, now - limit.get_expiry())]
        return times

    def _remove_expired(self, window: OrderedDict[str, list[float]], until: float) -> None:
        for _ in range(REMOVED_AT_ONCE):
            name, times = next(iter(window.items()))
            if times and times[-1] > until:
                break
            del window[name]


class SharedCounts(MovingWindowRateLimiter):
    """Counts in Redis, which processes share. Each method raises StorageError while Redis is unavailable."""

    def __init__(self, url: str) -> None:
        """Count in the Redis server at a URL, which is not asked yet."""
        self._redis = RedisStorage(url, **REDIS_OPTIONS)
        super().__init__(self._redis)

    def give_back(self, limit: RateLimitItem, *key: str) -> None:
        """Undo the newest count, if there is one."""
        try:
            self._redis.storage.lpop(self._redis.prefixed_key(limit.key_for(*key)))
        except self._redis.base_exceptions as error:
            raise StorageError(error) from error

    def seconds_left(self, limit: RateLimitItem, *key: str) -> float:
        """Return in how many seconds the oldest count expires."""
        return self.get_window_stats(limit, *key).reset_time - time.time()


class Limiter:
    """A moving-window rate limiter that counts in this process while Redis is unavailable.

    It logs that once, retries Redis every RETRY_SECONDS, and logs when Redis is back.
    """

    def __init__(self, redis_url: str = "") -> None:
        """Count in the Redis server at a URL, or in this process if the URL is empty."""
        self.local = LocalCounts()
        self.shared = SharedCounts(redis_url) if redis_url else None
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

    def seconds_left(self, limit: RateLimitItem, *key: str) -> float:
        """Return in how many seconds the oldest count expires."""
        return float(self._call("seconds_left", limit, *key))

    def _call(self, name: str, *arguments: Any) -> Any:
        if self.shared and time.monotonic() >= self.away_until:
            try:
                result = getattr(self.shared, name)(*arguments)
            except StorageError:
                if not self.away_until:
                    logger.warning("redis_away")
                self.away_until = time.monotonic() + RETRY_SECONDS
            else:
                if self.away_until:
                    self.away_until = 0.0
                    logger.warning("redis_back")
                return result
        return getattr(self.local, name)(*arguments)
