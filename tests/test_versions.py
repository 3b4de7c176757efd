"""Which versions of Python and Django are said to work, in each place that says so."""

import re

from config import BASE_DIR
from framework.compiled_query import TESTED_VERSIONS

PROJECT = (BASE_DIR / "pyproject.toml").read_text()
PAGE = (BASE_DIR / "docs" / "versions.md").read_text()


def classified(name: str) -> list[str]:
    """Return the versions of something that the classifiers name."""
    return re.findall(rf'"{name} :: (\d+\.\d+)",', PROJECT)


def runs_with(column: int) -> set[str]:
    """Return the minor versions in a column of the page's table of runs."""
    runs = [line.split("|") for line in PAGE.splitlines() if line.startswith("|") and "passed" in line]
    return {re.match(r"\d+\.\d+", run[column].strip())[0] for run in runs}


def test_queries_are_compiled_with_the_versions_of_django_that_are_supported():
    assert classified("Framework :: Django") == [f"{major}.{minor}" for major, minor in TESTED_VERSIONS]


def test_suite_was_run_with_every_version_of_django_and_the_oldest_and_newest_python():
    pythons = classified("Programming Language :: Python")

    assert runs_with(2) == set(classified("Framework :: Django"))
    assert {pythons[0], pythons[-1]} <= runs_with(1)


def test_ranges_are_those_of_the_classifiers():
    def first_and_after(versions):
        major, minor = versions[-1].split(".")
        return [versions[0], f"{major}.{int(minor) + 1}"]

    python = re.search(r'requires-python = ">=([\d.]+),<([\d.]+)"', PROJECT)
    django = re.search(r'"django>=([\d.]+),<([\d.]+)"', PROJECT)

    assert list(python.groups()) == first_and_after(classified("Programming Language :: Python"))
    assert list(django.groups()) == first_and_after(classified("Framework :: Django"))
