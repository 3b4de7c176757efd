"""The pages beside README.md, held against the code, and the links of all of them."""

import dataclasses
import re

import pytest

from config import BASE_DIR, Settings
from user import rate_limits
from web.problems import PROBLEMS

from .markdown import anchors, code, links, pages, read, resolve, section, table


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page):
    for link in links(page):
        target, anchor = resolve(page, link)

        assert target.is_file(), link
        assert target.is_relative_to(BASE_DIR), link
        assert not anchor or anchor in anchors(target.relative_to(BASE_DIR).as_posix()), link


def test_anchors_are_those_of_github(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.markdown.BASE_DIR", tmp_path)
    (tmp_path / "page.md").write_text(
        "# `HTTP`, and TLS\n```sh\n# no heading\n```\n## Back up\n## Back up\n### A [link](x.md)_1 – done?\n"
    )

    assert anchors("page.md") == {"http-and-tls", "back-up", "back-up-1", "a-link_1--done"}


def test_errors_are_those_of_the_service():
    assert [(code, int(status)) for code, status, _ in table("docs/api.md", "Errors")] == [
        (code, status) for code, (status, _) in PROBLEMS.items()
    ]


def test_settings_are_those_of_the_service():
    assert [(name, default) for name, default, _ in table("docs/settings.md", "Settings")] == [
        (field.name.upper(), field.metadata["default"]) for field in dataclasses.fields(Settings)
    ]


def test_commands_are_those_of_the_service():
    listed = [command.split()[0] for command, _ in table("docs/operations.md", "Commands")]
    modules = [path.stem for path in BASE_DIR.glob("*/management/commands/[!_]*.py")]

    assert sorted(listed) == sorted(modules)


def test_rate_limits_are_those_of_the_service():
    limits = [
        rate_limits.FAILURES_PER_PAIR,
        rate_limits.FAILURES_PER_ADDRESS,
        rate_limits.FAILURES_PER_USERNAME,
        rate_limits.SIGNUPS_PER_ADDRESS,
    ]

    assert [limit for _, _, limit in table("docs/security.md", "Rate limits")] == [
        f"{limit.amount // rate_limits.SCALE} in {limit.get_expiry() // 60} minutes" for limit in limits
    ]


def test_every_module_has_its_place():
    listed = {name for name, _ in table("CONTRIBUTING.md", "Where a change goes")}
    modules = {
        path.relative_to(BASE_DIR).as_posix()
        for app in ("user", "passkey")
        for path in (BASE_DIR / app).glob("*.py")
    }

    assert modules - {"user/__init__.py", "passkey/__init__.py"} <= listed
    assert [name for name in listed if not (BASE_DIR / name).exists()] == []


def test_test_that_is_named_as_an_example_exists():
    (test,) = set(re.findall(r"pytest -q (\S+)::(\w+)", read("CONTRIBUTING.md")))

    assert f"def {test[1]}(" in read(test[0])


@pytest.mark.parametrize("diagram", code(section("CONTRIBUTING.md", "How a request runs"), "mermaid"))
def test_diagrams_name_what_the_code_has(diagram):
    modules = {*re.findall(r"[\w/]+\.py\b", diagram), "user/queries.py", "user/schema.py", "web/problems.py"}
    sources = "".join(map(read, modules))
    text = re.sub(r"[\w/]+\.py\b", "", diagram).removeprefix("sequenceDiagram")
    # With a dot, an underscore, or a capital inside, it is a name of the code.
    names = re.findall(r"\w+(?:\.\w+)+|\w+_\w+|[A-Z][a-z]+[A-Z]\w*", text)

    assert len(names) > 5
    for name in ".".join(names).split("."):
        assert re.search(rf'(def|class) {name}\b|^{name} =|"{name}"', sources, re.MULTILINE), name
