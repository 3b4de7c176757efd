"""On Python 3.14, UtilMeta and utype find what a class declares."""

import gc
import inspect
import sys

import pytest
import utype
from utilmeta.core import api
from utype.parser.cls import ClassParser

from .support import FIND_ANNOTATIONS, run

if sys.version_info < (3, 14):
    pytest.skip("this Python needs no patch to find annotations", allow_module_level=True)

from framework.utilmeta_patches import python_314


class Chapter(utype.Schema):
    title: str
    parts: list["Chapter"] = utype.Field(default_factory=list)
    editor: "Person | None" = None
    writer: Person | None = None  # noqa: F821  (as Python 3.14 allows)


class Person(utype.Schema):
    name: str


class LeafAPI(api.API):
    @api.get
    def get(self) -> str:
        return "leaf"


class RootAPI(api.API):
    leaf: LeafAPI


def test_field_without_a_default_is_required():
    with pytest.raises(utype.exc.ParseError, match="title"):
        Chapter()


def test_schema_may_name_itself_and_one_that_follows():
    chapter = Chapter(title="1", parts=[{"title": "1.1"}], editor={"name": "Ada"}, writer={"name": "Bob"})

    assert type(chapter.parts[0]) is Chapter
    assert type(chapter.editor) is type(chapter.writer) is Person
    with pytest.raises(utype.exc.ParseError, match="name"):
        Chapter(title="1", editor={})


def test_annotations_of_a_class_are_without_those_of_its_bases():
    class Longer(Chapter):
        pages: int

    assert python_314.own_annotations(Longer) == {"pages": int}
    assert set(Longer.__parser__.fields) == {*Chapter.__parser__.fields, "pages"}


def test_api_has_the_apis_under_it():
    (route,) = RootAPI._routes

    assert route.handler is LeafAPI


READ_BEFORE = """
import utilmeta.bin.meta
from utilmeta.conf import Preference
print(len(Preference.__parser__.fields) < 21)
import server
print(server.service.get_config(Preference).dependencies_auto_install_disabled)
print(Preference.__parser__.fields["orm_on_conflict_type"].default)
print(Preference(max_retry_loops=3).max_retry_loops)
Preference(orm_on_conflict_type="never")
"""


def test_class_that_meta_has_read_before_has_its_fields():
    done = run("python", "-c", READ_BEFORE, PYTHONPATH=".")

    assert done.stdout.split() == ["True", "True", "warn", "3"]
    assert "parse item: ['orm_on_conflict_type'] failed" in done.stderr


def test_commands_start_without_a_warning():
    done = run("meta", "--help")

    assert (done.returncode, done.stderr) == (0, "")


def test_versions_that_do_not_find_annotations_are_refused():
    done = run("python", "-c", "import utype; utype.__version__ = '0.6.9'; import server", PYTHONPATH=".")

    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert line == (
        "demo-user cannot start: UtilMeta 2.8.1 with utype 0.6.9 does not work on Python 3.14; "
        "2.8.1 with 0.6.8 does."
    )


def test_versions_that_find_annotations_by_themselves_are_left_alone():
    newer = FIND_ANNOTATIONS + "import utype; utype.__version__ = '0.6.9'; import server"
    done = run("python", "-c", newer, PYTHONPATH=".")

    assert (done.returncode, done.stderr) == (0, "")


def test_replaced_method_keeps_its_name_and_its_lines():
    method = ClassParser.generate_fields

    assert method.__qualname__ == "ClassParser.generate_fields"
    assert inspect.getsourcelines(method)[0][0] == "    def generate_fields(self):\n"


def test_method_that_says_something_else_is_not_replaced():
    before = vars(api.API)["__init_subclass__"]

    with pytest.raises(ValueError, match="no such expression"):
        python_314.replace_in_source(api.API, "__init_subclass__", "no such expression", "None")

    assert vars(api.API)["__init_subclass__"] is before


def test_what_a_reference_stood_for_is_dropped_with_it():
    reference = python_314.ForwardRef("Person")
    other = python_314.ForwardRef("Person")
    kept = vars(python_314.ForwardRef)["__forward_value__"].values
    before = len(kept)

    assert python_314.evaluate(reference, globals(), None) is Person
    assert (reference.__forward_evaluated__, reference.__forward_value__) == (True, Person)
    assert (other.__forward_evaluated__, other.__forward_value__) == (False, None)
    del reference
    gc.collect()
    assert len(kept) == before
