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
    chapter = Chapter(title="1", parts=[{"title": "1.1"}], editor={"name": "Ada"})

    assert type(chapter.parts[0]) is Chapter
    assert type(chapter.editor) is Person
    with pytest.raises(utype.exc.ParseError, match="name"):
        Chapter(title="1", editor={})


def test_field_of_a_base_keeps_its_type():
    class Longer(Chapter):
        pages: int = 0

    assert set(Longer.__parser__.fields) == {*Chapter.__parser__.fields, "pages"}
    assert Longer(title="1", pages="2").pages == 2


def test_api_has_the_apis_under_it():
    (route,) = RootAPI._routes

    assert route.handler is LeafAPI


# Prints what UtilMeta has parsed by the time when it is imported.
PARSED = """
from utype.parser import base
for cls in sorted((each for each in base.__parsers__ if isinstance(each, type)), key=repr):
    for name, field in base.__parsers__[cls].fields.items():
        print(cls, name, field.type, field.field.default, field.required, type(vars(cls).get(name)))
from utilmeta.conf import Preference, Time
from utilmeta.core.response.sse import SSEResponse
time = Time()
time.use_tz = "false"
print(time.use_tz, list(SSEResponse.__parser__.fields), Preference(max_retry_loops=3))
Preference(orm_on_conflict_type="never")
"""


def test_class_that_was_loaded_before_is_as_if_loaded_after():
    before, after = (
        run("python", "-c", first + PARSED, PYTHONPATH=".")
        for first in (
            "import utilmeta.bin.meta, framework.utilmeta_patches",
            f"{FIND_ANNOTATIONS}import utilmeta.bin.meta",
        )
    )

    assert before.stdout.splitlines() == after.stdout.splitlines()
    assert "False ['result', 'headers'] Preference(max_retry_loops=3, " in before.stdout
    for each in (before, after):
        assert "parse item: ['orm_on_conflict_type'] failed" in each.stderr


MISSPELT = """
import server, utype
from utilmeta.core import api
class {}:
    size: Siez
"""


@pytest.mark.parametrize("declaration", ["Note(utype.Schema)", "NoteAPI(api.API)"])
def test_name_that_is_not_defined_is_an_error_at_once(declaration):
    done = run("python", "-c", MISSPELT.format(declaration), PYTHONPATH=".")

    assert done.stderr.splitlines()[-1] == "NameError: name 'Siez' is not defined"


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
