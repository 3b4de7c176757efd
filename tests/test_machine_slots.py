"""Slots that processes share: their number holds among processes, and none is lost with a process."""

import os
import subprocess
import sys
import tempfile
import uuid

import pytest

from config import BASE_DIR
from framework.machine_slots import MachineSlots

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
