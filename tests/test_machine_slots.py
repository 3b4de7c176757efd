"""Slots that processes share: their number holds among processes, and none is lost with a process."""

import os
import subprocess
import sys
import tempfile
import threading
import uuid
from pathlib import Path

import pytest

from config import BASE_DIR
from framework.machine_slots import MachineSlots

from .support import until

PROGRAM = """
import sys
from framework.machine_slots import MachineSlots
with MachineSlots(sys.argv[1], 2).slot():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def hold(name: str) -> subprocess.Popen[bytes]:
    """Start a process that asks for a slot, and keeps it until its standard input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, name], cwd=BASE_DIR, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


@pytest.mark.parametrize("end", ["leave", "kill"])
def test_process_waits_until_another_leaves_or_dies(end):
    name = f"slots-{uuid.uuid4().hex}"
    holders = [hold(name) for _ in range(2)]
    assert [holder.stdout.readline() for holder in holders] == [b"held\n"] * 2

    waiting = hold(name)
    os.set_blocking(waiting.stdout.fileno(), False)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.5)
    assert waiting.stdout.read() is None
    os.set_blocking(waiting.stdout.fileno(), True)

    for holder in holders:
        if end == "kill":
            holder.kill()
        holder.stdin.close()
        holder.wait(60)
    assert waiting.stdout.readline() == b"held\n"
    waiting.stdin.close()
    waiting.wait(60)
    for process in [*holders, waiting]:
        process.stdout.close()


def test_stopped_process_delays_the_others_but_does_not_block_them(tmp_path):
    slots = MachineSlots("slots", 1, seconds=0.1)

    with slots.slot():  # as by a process that is stopped
        with slots.slot():
            pass
        waiting = threading.active_count()
    until(lambda: threading.active_count() < waiting)  # the thread that waited for the slot has given it back

    with MachineSlots("slots", 1, seconds=30).slot():
        assert len(open_files(tmp_path)) == 1
    assert open_files(tmp_path) == []


def open_files(folder: Path) -> list[str]:
    """Return the files in a folder that this process has open."""
    links = [Path("/proc/self/fd", number) for number in os.listdir("/proc/self/fd")]
    return [os.readlink(link) for link in links if link.exists() and str(folder) in os.readlink(link)]


def test_slot_is_given_back_when_the_work_fails():
    slots = MachineSlots("slots", 1)

    with pytest.raises(ValueError, match="work"), slots.slot():
        raise ValueError("work")

    with slots.slot():
        pass


def test_folder_of_somebody_else_binds_nobody(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"slots-{os.getuid()}").symlink_to(tmp_path / "elsewhere")

    with MachineSlots("slots", 1).slot(), MachineSlots("slots", 1).slot():
        assert list((tmp_path / "elsewhere").iterdir()) == []


def test_system_without_file_locks_binds_nobody(monkeypatch):
    monkeypatch.setattr("framework.machine_slots.fcntl", None)

    with MachineSlots("slots", 1).slot(), MachineSlots("slots", 1).slot():
        assert MachineSlots("slots", 1).folder is None
