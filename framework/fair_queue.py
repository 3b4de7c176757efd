"""A bounded number of slots for expensive work, and a queue for them that is fair between clients.

The policy:

- At most `slots` callers work at the same time. The others wait in the queue, at most `length` of them, each
  for at most `seconds`.
- Clients are told apart by a key, such as their network. They are served first come, first served, one
  caller a turn: a client that has many callers in the queue takes turns with the others, so it delays
  nobody by more than one slot a turn.
- When the queue is full, the client with the most callers in it loses its newest one, be it a caller that
  waits already or the one that has just come. So a client with many callers cannot keep the others out.
- A caller that is turned away is told after how many seconds today's queue will have been worked off.
- A caller that stops waiting, for whatever reason, leaves the queue. If it was given a slot at that very
  moment, the slot goes to the next one.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager

# How much of the average time in a slot the latest caller decides.
LATEST_WEIGHT = 0.2


class QueueFullError(Exception):
    """There is no slot to be had in time; `retry_after` is the number of seconds until another try."""

    def __init__(self, retry_after: int) -> None:
        """Keep the seconds after which it is worth another try."""
        super().__init__(f"The queue is full; try again in {retry_after} s.")
        self.retry_after = retry_after


class Waiter:
    """A caller in the queue, which sleeps on a lock until it is admitted or evicted."""

    def __init__(self) -> None:
        """Begin to wait."""
        self.admitted = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def sleep(self, seconds: float) -> None:
        """Wait until `wake` is called, at most for a number of seconds."""
        self._lock.acquire(timeout=seconds)

    def wake(self, *, admitted: bool) -> None:
        """Let the caller go on, with a slot or without."""
        self.admitted = admitted
        self._lock.release()


class FairQueue:
    """Slots for expensive work, handed out by the policy of this module."""

    def __init__(self, slots: int, length: int, seconds: float, typical_seconds: float = 1.0) -> None:
        """Make a queue; `typical_seconds` is how long a caller needs a slot, until that is known better."""
        self.slots = slots
        self.length = length
        self.seconds = seconds
        self._mutex = threading.Lock()
        self._working = 0
        self._mean_seconds = typical_seconds
        # The waiting callers of each client, in the order in which the clients are served next.
        self._clients: OrderedDict[str, deque[Waiter]] = OrderedDict()

    @contextmanager
    def slot(self, client: str) -> Iterator[None]:
        """Wait for a slot and hold it; raise QueueFullError when there is none to be had in time."""
        waiter = Waiter()
        try:
            self._wait(client, waiter)
            start = time.monotonic()
            yield
            self._mean_seconds += LATEST_WEIGHT * (time.monotonic() - start - self._mean_seconds)
        finally:
            self._leave(client, waiter)

    def __len__(self) -> int:
        """Return how many callers wait."""
        return sum(map(len, self._clients.values()))

    def retry_after(self) -> int:
        """Return the seconds after which the callers in the queue will have been served, 1 or more."""
        return max(1, math.ceil((len(self) + self._working) * self._mean_seconds / self.slots))

    def acquire(self, client: str) -> None:
        """Wait for a slot; raise QueueFullError when there is none to be had in time."""
        waiter = Waiter()
        try:
            self._wait(client, waiter)
        except BaseException:
            self._leave(client, waiter)
            raise

    def _wait(self, client: str, waiter: Waiter) -> None:
        with self._mutex:
            if self._working < self.slots:
                self._working += 1
                waiter.admitted = True
                return
            self._enqueue(client, waiter)
        waiter.sleep(self.seconds)
        with self._mutex:
            if not waiter.admitted:
                raise QueueFullError(self.retry_after())

    def _leave(self, client: str, waiter: Waiter) -> None:
        with self._mutex:
            if waiter.admitted:
                self._hand_over()
            else:
                self._remove(client, waiter)

    def release(self) -> None:
        """Give a slot back, to the caller who is next."""
        with self._mutex:
            self._hand_over()

    def _enqueue(self, client: str, waiter: Waiter) -> None:
        self._clients.setdefault(client, deque()).append(waiter)
        if len(self) > self.length:
            # Of clients with equally many callers, the one that has just come.
            greediest = max(self._clients, key=lambda each: (len(self._clients[each]), each == client))
            evicted = self._clients[greediest][-1]
            self._remove(greediest, evicted)
            evicted.wake(admitted=False)

    def _remove(self, client: str, waiter: Waiter) -> None:
        waiters = self._clients.get(client, deque())
        if waiter in waiters:
            waiters.remove(waiter)
        if not waiters:
            self._clients.pop(client, None)

    def _hand_over(self) -> None:
        if not self._clients:
            self._working -= 1
            return
        client, waiters = next(iter(self._clients.items()))
        waiters.popleft().wake(admitted=True)
        self._clients.move_to_end(client)
        if not waiters:
            del self._clients[client]
