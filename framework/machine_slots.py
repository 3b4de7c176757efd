"""Slots that all processes of a service on one machine share, so that together they never use more cores.

A server has several worker processes, and the system gives one of them more connections than another. If each
had cores of its own to compute with, those of one would idle while requests wait in the other.

Each slot is a locked file. The system unlocks it when its process ends, however that happens. A process that
is stopped while it holds one delays the others, but does not block them: after some seconds they do without.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .private_folder import private_folder

try:
    import fcntl
except ImportError:  # pragma: no cover  (Windows, where only the development server runs)
    fcntl = None  # type: ignore[assignment]


class MachineSlots:
    """At most a number of holders at the same time, in all processes of one user that use the same name."""

    def __init__(self, name: str, count: int, seconds: float = 5.0) -> None:
        """Find or make the files; wait for a slot for some seconds at most.

        Where that is impossible, the slots bind nobody.
        """
        self.count = count
        self.seconds = seconds
        self.folder: Path | None = None
        if fcntl:
            with suppress(OSError):
                self.folder = private_folder(name)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a slot and hold it, or go on without one when none is free for too long."""
        held = self._acquire()
        try:
            yield
        finally:
            if held is not None:
                os.close(held)

    def _acquire(self) -> int | None:
        if self.folder is None:
            return None
        # Threads begin at different files, and wait there when none is free.
        first = threading.get_ident() // 64 % self.count
        for number in [*range(first, self.count), *range(first)]:
            file = self._open(number)
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return file
            os.close(file)
        return BlockingLock(self._open(first)).wait(self.seconds)

    def _open(self, number: int) -> int:
        return os.open(f"{self.folder}/{number}", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)


class BlockingLock:
    """A lock on a file that is waited for in a thread of its own, since flock itself knows no time limit.

    To ask again and again would be simpler, but the process that asks most often would get the lock, and not
    the one that has waited longest.
    """

    def __init__(self, file: int) -> None:
        """Begin to wait for the lock of an open file, which is closed if nobody waits for it any more."""
        self._file = file
        self._mutex = threading.Lock()
        self._locked = threading.Event()
        self._abandoned = False
        threading.Thread(target=self._lock, daemon=True).start()

    def wait(self, seconds: float) -> int | None:
        """Return the file once it is locked, or None when that takes more than some seconds."""
        try:
            self._locked.wait(seconds)
        finally:
            with self._mutex:
                self._abandoned = not self._locked.is_set()
        return None if self._abandoned else self._file

    def _lock(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        with self._mutex:
            if self._abandoned:
                os.close(self._file)
            self._locked.set()
