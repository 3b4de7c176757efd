"""What UtilMeta 2.8.1 and utype 0.6.8 lack on Python 3.14, without which neither works there.

Python 3.14 evaluates the annotations of a class when somebody asks for them, and keeps them out of its
`__dict__` (PEP 649, PEP 749), where both packages look: a schema loses its fields without a default, and an
API the APIs under it. Its `ForwardRef` has no attribute for what it was evaluated to, which utype reads.

Here a class's annotations are evaluated when the class is parsed, as on any Python before: a name that is not
defined yet has to be quoted, and one that never is raises NameError at import.
"""

import inspect
import textwrap
import weakref
from typing import Any, ForwardRef

import utype
from utype.parser import base, rule
from utype.parser.cls import ClassParser


def annotations_are_found() -> bool:
    """Tell whether a schema has its fields, and an API the APIs under it."""
    from utilmeta.core.api import API

    class ProbeSchema(utype.Schema):
        field: int

    class ProbeAPI(API):
        field: int

    return "field" in ProbeSchema.__parser__.fields and "field" in ProbeAPI.__annotations__


def apply() -> None:
    """Change both packages, and parse those classes again that have been loaded before."""
    forward_ref: Any = ForwardRef
    forward_ref.__forward_evaluated__ = ExternalAttribute(default=False)
    forward_ref.__forward_value__ = ExternalAttribute(default=None)
    base.evaluate_forward_ref = rule.evaluate_forward_ref = evaluate
    replace_in_source(
        ClassParser,
        "generate_fields",
        'self.obj.__dict__.get("__annotations__", {})',
        "get_annotations(self.obj)",
    )
    loaded = [each for each in base.__parsers__.values() if isinstance(each, ClassParser)]
    for parser in sorted(loaded, key=lambda each: len(each.obj.__mro__)):
        parse_again(parser)

    from utilmeta.core.api import API  # not before: utype could not read what it declares

    replace_in_source(
        API, "__init_subclass__", 'cls.__dict__.get("__annotations__", {})', "get_annotations(cls)"
    )


class ExternalAttribute:
    """An attribute whose values are kept outside of the instances, since `ForwardRef` has `__slots__`."""

    def __init__(self, default: Any) -> None:
        self.default = default
        self.values: dict[int, Any] = {}

    def __get__(self, instance: Any, owner: type) -> Any:
        """Return the value that an object has."""
        return self.values.get(id(instance), self.default)

    def __set__(self, instance: Any, value: Any) -> None:
        """Give an object a value, which is dropped with the object."""
        if id(instance) not in self.values:
            weakref.finalize(instance, self.values.pop, id(instance), None)
        self.values[id(instance)] = value


def evaluate(reference: Any, global_names: dict[str, Any], local_names: dict[str, Any] | None) -> Any:
    """Return what a ForwardRef stands for, and keep it there; raises NameError while it is not defined."""
    value = reference.evaluate(globals=global_names, locals=local_names)
    reference.__forward_evaluated__ = True
    reference.__forward_value__ = value
    return value


def replace_in_source(owner: type, name: str, old: str, new: str) -> None:
    """Replace an expression in the source of a method by one that may call `inspect.get_annotations`.

    The methods are long, and all the rest of them stays as it is. Raises ValueError when the source does not
    have the expression exactly once.
    """
    method = inspect.getattr_static(owner, name)
    function: Any = getattr(method, "__func__", method)
    lines, first = inspect.getsourcelines(function)
    source = "".join(lines)
    if source.count(old) != 1:
        raise ValueError(f"{function.__qualname__} does not say {old} once")
    # `super()` without arguments reads a variable `__class__` around the method, which a class body provides.
    around = "def make(__class__, get_annotations):\n{}\n return {}"
    body = textwrap.indent(textwrap.dedent(source.replace(old, new)), " ")
    # So that tracebacks show the right lines: they are counted from 1, and `make` adds one.
    numbered = "\n" * (first - 2) + around.format(body, name)
    variables: dict[str, Any] = {}
    exec(compile(numbered, inspect.getfile(function), "exec"), function.__globals__, variables)  # noqa: S102
    changed = variables["make"](owner, inspect.get_annotations)
    changed.__qualname__ = function.__qualname__
    setattr(owner, name, changed if method is function else type(method)(changed))


def parse_again(parser: ClassParser) -> None:
    """Parse a class as if for the first time, after its bases."""
    cls = parser.obj
    # Parsing replaced each value in the class by a property: put it back first.
    for field in parser.fields.values():
        if not field.property and isinstance(vars(cls).get(field.attname), property):
            setattr(cls, field.attname, field.field)
    parser.fields.clear()
    parser.setup()
    if "__parser__" in vars(cls):
        super(cls, cls).__init_subclass__()  # makes the properties of the fields
