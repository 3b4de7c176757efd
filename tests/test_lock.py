"""requirements.lock, held against pyproject.toml and constraints.txt, without the internet."""

import re
from importlib.metadata import PackageNotFoundError, requires, version

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from config import BASE_DIR

from .markdown import table

LOCK = (BASE_DIR / "requirements.lock").read_text()
SCRIPT = (BASE_DIR / ".ci/lock").read_text()
PROJECT = (BASE_DIR / "pyproject.toml").read_text()
EXTRAS = re.search(r"^extras=\((.*)\)$", SCRIPT, re.MULTILINE)[1].split()
# What the image runs on, in the words of PEP 508.
IMAGE = {
    "python_version": "3.13",
    "python_full_version": "3.13.0",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "os_name": "posix",
}


def pins(text: str) -> dict[str, str]:
    """Return the version of each package that a file of requirements pins."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s\\]+)", text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


LOCKED = pins(LOCK)


def test_lock_has_the_versions_of_the_constraints():
    constraints = pins((BASE_DIR / "constraints.txt").read_text())

    assert LOCKED
    assert {name: constraints.get(name) for name in LOCKED} == LOCKED


def test_every_package_of_the_lock_has_hashes():
    entries = re.split(r"^(?=[a-z0-9])", re.sub("^ *#.*\n", "", LOCK, flags=re.MULTILINE), flags=re.MULTILINE)

    assert len(entries[1:]) == len(LOCKED)
    for entry in entries[1:]:
        assert re.fullmatch(r"\S+==\S+( \\\n    --hash=sha256:[0-9a-f]{64})+\n", entry), entry


def wanted(requirements: list[str], machine: str, extra: str = "") -> list[Requirement]:
    """Return those of some requirements that hold in the image on a kind of machine, for an extra."""
    environment = IMAGE | {"platform_machine": machine, "extra": extra}
    found = map(Requirement, requirements)
    return [each for each in found if not each.marker or each.marker.evaluate(environment)]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_lock_has_what_the_image_needs_and_nothing_else(machine):
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML")
    project = tomllib.loads(PROJECT)["project"]
    optional = project["optional-dependencies"]
    todo = wanted(
        [*project["dependencies"], *(each for extra in EXTRAS for each in optional[extra])], machine
    )
    seen = set()

    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        assert name in LOCKED
        assert requirement.specifier.contains(LOCKED[name])
        try:
            installed = version(name)
        except PackageNotFoundError:
            installed = None
        if installed != LOCKED[name]:
            pytest.skip(f"{name} {LOCKED[name]} is not what is installed here, so what it needs is not known")
        for extra in {"", *requirement.extras}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                todo += wanted(requires(name) or [], machine, extra)

    assert {name for name, _ in seen} == set(LOCKED)


def test_lock_has_every_extra_of_an_installation():
    documented = {extra.strip("`") for extra, _ in table("docs/deployment.md", "Install")}

    assert set(EXTRAS) == documented


def test_lock_is_for_the_python_of_the_image():
    (python,) = re.findall(r"^python=(.+)$", SCRIPT, re.MULTILINE)

    assert f"\nARG BASE=python:{python}-slim\n" in (BASE_DIR / "Dockerfile").read_text()
    assert f"for Python {python} on Linux" in LOCK.splitlines()[0]
    assert f"Extras: {' '.join(EXTRAS)}." in LOCK.splitlines()[0]
