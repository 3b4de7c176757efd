"""What is faster than UtilMeta's and Django's own changes nothing but what a request costs."""

import django
import pytest

from config import BASE_DIR
from framework import compiled_query, utilmeta_patches

from .support import FIND_ANNOTATIONS, run

# A version whose compiler nobody has looked at.
NEWER_DJANGO = """
import runpy, django
django.VERSION = (9, 0, 0, "final", 0)
runpy.run_module("tests.transcript", run_name="__main__")
"""


def transcript(folder, *command: str, compiled: bool = True, **settings: str) -> str:
    """Return what the service answers to many requests; check whether it compiled its queries."""
    command = command or ("-m", "tests.transcript")
    done = run("python", *command, cwd=BASE_DIR, DATABASE_URL=f"sqlite:///{folder}/db.sqlite3", **settings)
    assert done.returncode == 0, done.stderr
    assert ("queries_not_compiled" in done.stderr) != compiled
    return done.stdout


@pytest.mark.parametrize("production", ["true", "false"])
def test_responses_are_the_same_without_the_patches(tmp_path_factory, production):
    with_patches, without = (
        transcript(
            tmp_path_factory.mktemp("service"), UTILMETA_PATCHES=switch, UTILMETA_PRODUCTION=production
        )
        for switch in ("on", "off")
    )

    assert with_patches.splitlines() == without.splitlines()
    for status in (200, 400, 401, 403, 404, 405, 413, 415):
        assert f"\n{status}\n" in with_patches


def test_responses_are_the_same_on_a_version_of_django_that_no_query_is_compiled_with(tmp_path_factory):
    compiled = transcript(tmp_path_factory.mktemp("service"))
    plain = transcript(tmp_path_factory.mktemp("service"), "-c", NEWER_DJANGO, compiled=False)

    assert compiled.splitlines() == plain.splitlines()
    assert "\n200\n" in compiled


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
        FIND_ANNOTATIONS + "import utilmeta; utilmeta.__version__ = '2.9.0'\n"
        # A version that lacks what the patches change.
        "from utilmeta.core.request import var; del var.RequestContextVar.getter._syncfunc"
    ) + PATCHED
    done = run("python", "-c", code, **DEVELOPMENT)

    assert done.stdout.strip() == "utilmeta.core.request.var True"
    (line,) = done.stderr.splitlines()
    assert "utilmeta_unpatched" in line
    assert "2.9.0" in line


def test_installed_versions_are_those_that_the_shortcuts_were_tested_with():
    assert utilmeta_patches.utilmeta.__version__ in utilmeta_patches.TESTED_VERSIONS
    assert django.VERSION[:2] in compiled_query.TESTED_VERSIONS
