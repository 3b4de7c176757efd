"""The counts of several workers: files that one worker leaves, and the next one continues.

A server has several worker processes, and any of them may be asked for the metrics. So prometheus_client
keeps the values of each process in files, and adds up those of all. Which files are whose is decided here:

- The workers of a server share a folder. Its name says which process the server is, and when that was
  started. So two servers on a machine count apart, and a server that is started again begins at 0.
- A worker holds one of the numbered locks in that folder until its process ends, however that happens. It
  counts in the files with that number. A worker that replaces another one takes the lowest number that is
  free, and continues its counts. So no counter falls, and there are never more files than there were workers
  at the same time.
- A gauge says what is now, so it begins at 0, and the gauges of a worker that has ended are deleted.
- Each worker also locks the folder itself, to tell the others that it is in use. systemd-tmpfiles leaves out
  a locked folder, too (tmpfiles.d(5)). A worker deletes the folders of servers that have ended.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

# The kinds of files that prometheus_client has for the metrics here, and the bytes of each at the start: for
# the labels of every endpoint. It makes them larger if it has to. The space is allocated at the start, since
# writing to a mapped file when the disk is full kills a process (SIGBUS).
FILE_SIZES = {"counter": 1 << 18, "histogram": 1 << 20, "gauge_livesum": 1 << 12}


class WorkerFiles:
    """The files in which this process counts, as one of the workers of its parent process."""

    def __init__(self, base: Path) -> None:
        """Find or make the files below a folder; raise OSError if that cannot be done."""
        self.folder = base
        self._base = base
        self._pid = 0
        self._name = ""
        self._locks: list[int] = []
        self.name()

    def name(self) -> str:
        """Return the last part of the names of the files, which no other process has.

        A process that was forked has other files than the one that it was forked from.
        """
        if self._pid != os.getpid():
            self._take_files()
            self._pid = os.getpid()
        return self._name

    def count_workers(self) -> int:
        """Return how many workers the server has, and delete the gauges of those that have ended."""
        count = 0
        with self._alone():
            for path in self.folder.glob("*.lock"):
                lock = try_lock(path)
                if lock is None:
                    count += 1
                else:
                    mark_process_dead(f"{self.folder.name}-{path.stem}", str(self.folder))
                    os.close(lock)
        return count

    def _take_files(self) -> None:
        for lock in self._locks:
            os.close(lock)  # inherited: the other process still holds it
        self.folder = self._base / name_of_process(os.getppid())
        self.folder.mkdir(mode=0o700, exist_ok=True)
        in_use = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(in_use, fcntl.LOCK_SH)
        with self._alone():
            numbers = itertools.count()
            own = None
            while own is None:
                number = next(numbers)
                own = try_lock(self.folder / f"{number}.lock")
            self._locks = [in_use, own]
            self._name = f"{self.folder.name}-{number}"
            for kind, size in FILE_SIZES.items():
                path = self.folder / f"{kind}_{self._name}.db"
                if kind.startswith("gauge") or not path.exists():
                    make_file(path, size)
        # prometheus_client looks for the folder there.
        os.environ.update(PROMETHEUS_MULTIPROC_DIR=str(self.folder))
        delete_old_folders(self._base)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other workers from looking at the locks, which they do by locking them for a moment."""
        file = os.open(self.folder / "mutex", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)


def name_of_process(pid: int | str) -> str:
    """Return a name that no earlier or later process has: the id, and when the process was started.

    The time is left out where the system does not tell it, and for a process that has ended.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return f"{pid}-0"
    # The 22nd field (proc(5)). The second one is the program's name, in parentheses.
    return f"{pid}-{int(stat.rpartition(b')')[2].split()[19])}"


def try_lock(path: Path) -> int | None:
    """Return the file at a path, locked until it is closed, or None if another process has locked it."""
    file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def make_file(path: Path, size: int) -> None:
    """Make a file of zeros, or replace one; whoever reads it meanwhile sees the whole of either."""
    new = path.with_suffix(".new")
    with open(os.open(new, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(bytes(size))
    new.replace(path)


def delete_old_folders(base: Path) -> None:
    """Delete the folders of servers that have ended, unless one of their workers still runs."""
    for folder in base.iterdir():
        if folder.name == name_of_process(folder.name.partition("-")[0]):
            continue
        with suppress(OSError):  # it is locked, or another worker deletes it at the same time
            file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(file)
