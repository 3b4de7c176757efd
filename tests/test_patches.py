"""The patches of UtilMeta: they change nothing but what a request costs."""

import pytest

from config import BASE_DIR
from framework import utilmeta_patches

from .support import run


def transcript(folder, **settings: str) -> str:
    """Return what the service answers to many requests."""
    database = f"sqlite:///{folder}/db.sqlite3"
    done = run("python", "-m", "tests.transcript", cwd=BASE_DIR, DATABASE_URL=database, **settings)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("production", ["true", "false"])
def test_answers_are_the_same_without_the_patches(tmp_path_factory, production):
    with_patches, without = (
        transcript(
            tmp_path_factory.mktemp("service"), UTILMETA_PATCHES=switch, UTILMETA_PRODUCTION=production
        )
        for switch in ("on", "off")
    )

    assert with_patches.splitlines() == without.splitlines()
    for status in (200, 400, 401, 403, 404, 405, 413, 415):
        assert f"\n{status}\n" in with_patches


def test_parts_that_the_service_does_not_use_are_the_same_without_the_patches():
    with_patches, without = (
        run("python", "-m", "tests.internals", UTILMETA_PATCHES=switch, **DEVELOPMENT)
        for switch in ("on", "off")
    )

    assert (with_patches.returncode, with_patches.stderr) == (0, "")
    assert with_patches.stdout.splitlines() == without.stdout.splitlines()
    assert "coroutine" in with_patches.stdout


DEVELOPMENT = {"UTILMETA_PRODUCTION": "false", "PYTHONPATH": "."}
PATCHED = """
import sys, server
from utilmeta.core.request import var
print(var.RequestContextVar.setup.__module__, "sqlalchemy" in sys.modules)
"""


@pytest.mark.parametrize(
    ("switch", "expected"),
    [("on", "framework.utilmeta_patches.slow_paths False"), ("off", "utilmeta.core.request.var True")],
)
def test_patches_can_be_switched_off(switch, expected):
    done = run("python", "-c", PATCHED, UTILMETA_PATCHES=switch, **DEVELOPMENT)

    assert done.stdout.strip() == expected
    assert done.stderr == ""


def test_other_version_runs_unpatched_with_one_warning():
    # It may also lack what the patches change.
    code = (
        "import utilmeta; utilmeta.__version__ = '2.9.0'\n"
        # A version that lacks what the patches change.
        "from utilmeta.core.request import var; del var.RequestContextVar.getter._syncfunc"
    ) + PATCHED
    done = run("python", "-c", code, **DEVELOPMENT)

    assert done.stdout.strip() == "utilmeta.core.request.var True"
    (line,) = done.stderr.splitlines()
    assert "utilmeta_unpatched" in line
    assert "2.9.0" in line


def test_installed_version_is_one_that_the_patches_were_tested_with():
    assert utilmeta_patches.utilmeta.__version__ in utilmeta_patches.TESTED_VERSIONS
