"""What every endpoint does here, whoever adds it: a strict body, strict paths, and JSON."""

import json
import re
from dataclasses import dataclass
from typing import Any

from utilmeta.core import api, request
from utilmeta.core.api import endpoint
from utilmeta.core.api.route import APIRoute
from utilmeta.core.response import Response
from utilmeta.utils.context import ParserProperty
from utype.parser.field import ParserField

from .faults import plain_type
from .json_body import JsonBody

# One text for each number, so that a row has one address.
WHOLE_NUMBER = "0|-?[1-9][0-9]*"


class StrictWrapper(endpoint.RequestContextWrapper):
    """The parameters of an endpoint. A body is a JsonBody, however it is declared."""

    def init_prop(self, prop: Any, val: ParserField) -> ParserProperty:
        """Return the property that reads a parameter of a request."""
        if isinstance(prop, request.BodyParam):
            raise TypeError(f"{val.name!r}: declare a schema of the whole body, with request.Body.")
        if type(prop) in (request.Body, request.Json):
            if not hasattr(val.type, "__parser__"):
                raise TypeError(f"{val.name!r}: a body is a JSON object, so annotate it with a schema.")
            prop = JsonBody(description=prop.description)
        return super().init_prop(prop, val)


class Endpoint(endpoint.Endpoint):
    """An endpoint that returns empty lists and objects, numbers and booleans as JSON.

    For an empty list UtilMeta sends nothing, and for a number or a boolean what Python prints.
    """

    wrapper_cls = StrictWrapper

    def handler(self, api: Any) -> Any:
        """Return the result of a request."""
        result = super().handler(api)
        if isinstance(result, (bool, int, float)) or (isinstance(result, (list, dict)) and not result):
            content = json.dumps(result).encode()
            return Response(content=content, content_type="application/json", request=api.request)
        return result


class Route(APIRoute):
    """A route, in whose path an int matches nothing but whole numbers.

    In UtilMeta it matches any text and is cast later, so `{id}` also matches the literal paths beside it.
    """

    def compile_route(self) -> None:
        """Make the regular expressions of the route."""
        super().compile_route()
        for name, form in self.kwargs_regex.items():
            if form == self.DEFAULT_PATH_REGEX and self.is_whole_number(name):
                group = f"(?P<{name}>%s)"
                self.regex_list: list[re.Pattern[str]] = [
                    re.compile(each.pattern.replace(group % form, group % WHOLE_NUMBER))
                    for each in self.regex_list
                ]

    def is_whole_number(self, name: str) -> bool:
        """Tell whether a parameter of the path is declared as an int."""
        if self.is_endpoint:
            declared = self.handler.parser.get_field(name).type
        else:
            declared = self.handler._properties[name].field.type
        kind = plain_type(declared)
        return issubclass(kind, int) and not issubclass(kind, bool)


def install() -> None:
    """Have UtilMeta use these in every API class that is declared from now on."""
    api.API._endpoint_cls = Endpoint
    api.API._route_cls = Route


@dataclass(frozen=True)
class Address:
    """The path of an endpoint, as `/api/notes/{id}`, and the regular expression of its paths."""

    template: str
    pattern: str


def addresses_of(api: Any, prefix: Address) -> list[Address]:
    """Return the address of every endpoint under an API class, in the order in which UtilMeta tries them."""
    addresses = []
    for each in api._routes:
        template = f"{prefix.template}/{each.route}".rstrip("/")
        # Without the rest of a path, and nameless: two parameters may have one name.
        forms = [form.pattern for form in each.regex_list if "(?P<_>" not in form.pattern]
        forms = [re.sub(r"\(\?P<\w+>", "(?:", form) for form in forms]
        if each.is_endpoint:
            patterns = [f"{prefix.pattern}/{form}".rstrip("/") for form in forms]
            addresses.append(Address(template, "|".join(patterns)))
        else:
            addresses += addresses_of(each.handler, Address(template, f"{prefix.pattern}/{forms[0]}"))
    return addresses


class Addresses:
    """The addresses of an API, and which of them a path is."""

    def __init__(self, api: Any, prefix: str) -> None:
        """Collect the addresses under an API class, which is mounted at a prefix."""
        found = addresses_of(api, Address(prefix, re.escape(prefix)))
        self.templates = list(dict.fromkeys(each.template for each in found))
        self._literal = frozenset(each for each in self.templates if "{" not in each)
        self._patterns = [
            (re.compile(each.pattern), each.template) for each in found if each.template not in self._literal
        ]

    def template_of(self, path: str) -> str | None:
        """Return the address that a path is, or None."""
        if path in self._literal:
            return path
        return next((template for pattern, template in self._patterns if pattern.fullmatch(path)), None)
