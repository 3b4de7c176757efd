"""Slots that all processes of a service on one machine share, so that together they never use more cores.

A server has several worker processes, and the system gives one of them more connections than another. If each
had cores of its own to compute with, those of one would idle while requests wait in the other.

Each slot is a locked file. The system unlocks it when its process ends, however that happens.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # pragma: no cover  (Windows, where only the development server runs)
    fcntl = None  # type: ignore[assignment]


class MachineSlots:
    """At most a number of holders at the same time, in all processes of one user that use the same name."""

    def __init__(self, name: str, count: int) -> None:
        """Find or make the files. Where that is impossible, the slots bind nobody."""
        self.count = count
        self.folder: Path | None = None
        if fcntl:
            with suppress(OSError):
                folder = Path(tempfile.gettempdir(), f"{name}-{os.getuid()}")
                folder.mkdir(mode=0o700, exist_ok=True)
                # In a folder that everybody can write to, somebody else may have made it before.
                if folder.lstat().st_uid == os.getuid() and not folder.is_symlink():
                    self.folder = folder

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a slot and hold it."""
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
        file = self._open(first)
        fcntl.flock(file, fcntl.LOCK_EX)
        return file

    def _open(self, number: int) -> int:
        return os.open(f"{self.folder}/{number}", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
