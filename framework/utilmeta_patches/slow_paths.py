"""UtilMeta's slow paths: each patch is the pull request that it should become.

None of them changes a response, only what it costs. The package says when they are applied.
"""

import sys
from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any

from utilmeta.core.api import API, hook
from utilmeta.core.api.route import APIRoute
from utilmeta.core.request import Request, var
from utilmeta.core.request.backends import django as backend
from utilmeta.utils import awaitable, decorator, plugin

# How many paths are remembered, with the routes that match them, and up to which length.
MAX_PATHS, MAX_PATH_LENGTH = 1024, 100
# The same method, for callers that are coroutines and for those that are not.
read, read_async = var.RequestContextVar.getter._syncfunc, var.RequestContextVar.getter._asyncfunc


def apply() -> None:
    """Apply the patches."""
    for patch in PATCHES:
        patch()


def bind_variables_with_instances() -> None:
    """Bind a context variable to a request with an instance, not with a class.

    `RequestContextVar.setup` declares a class with five functions for each of some 20 uses a request, and
    compares two signatures each time, which takes a quarter of a GET. An instance has the same methods.
    """

    class BoundVariable:
        __slots__ = ("request", "variable")

        def __init__(self, variable: var.RequestContextVar, request: Request) -> None:
            self.variable = variable
            self.request = request

        def contains(self) -> Any:
            return self.variable.contains(self.request)

        def get(self) -> Any:
            return read(self.variable, self.request)

        @awaitable(get)  # type: ignore[no-redef]
        async def get(self) -> Any:
            return await read_async(self.variable, self.request)

        def set(self, v: Any) -> Any:
            return self.variable.setter(self.request, value=v)

        def delete(self) -> Any:
            return self.variable.deleter(self.request)

    setup = var.RequestContextVar.setup

    def bind(self: var.RequestContextVar, request: Request) -> Any:
        # A subclass may override how it reads.
        return BoundVariable(self, request) if type(self) is var.RequestContextVar else setup(self, request)

    var.RequestContextVar.setup = bind


def detect_coroutines_by_code_flags() -> None:
    """Tell whether a caller is a coroutine by the flags of its code.

    `from_coroutine` keeps the results in a dictionary by code object, whose hash is made of everything in
    it, at each of some 30 calls a request; the flags are what it computes the result from.
    """

    def from_coroutine(level: int = 2) -> bool:
        code = sys._getframe(level).f_code
        if code.co_flags & decorator._CO_FROM_COROUTINE:
            return True
        if code.co_flags & decorator._CO_NESTED and code.co_name[0] == "<":
            return from_coroutine(level + 2)
        return False

    decorator.from_coroutine = from_coroutine


def prepare_plugins_once() -> None:
    """Look up and wrap the handler of a plugin once.

    `PluginEvent.get` inspects the signature of the same method, and wraps it twice, for each event in each
    request. Only the target that it is called with changes.
    """
    # By the identity of the plugin, which is kept: its hash is made of all that it was made with.
    handlers: dict[tuple[str, int, bool | None], tuple[Any, Callable[..., Any] | None]] = {}
    get = plugin.PluginEvent.get

    def prepared(
        self: plugin.PluginEvent, each: Any, target: Any = None, asynchronous: bool | None = None
    ) -> Callable[..., Any] | None:
        key = (self.name, id(each), asynchronous)
        if key not in handlers:
            handlers[key] = (each, get(self, each, asynchronous=asynchronous))
        handler = handlers[key][1]
        if handler and target:
            return lambda *args, **kwargs: handler(*args, target, **kwargs)
        return handler

    plugin.PluginEvent.get = prepared


def match_routes_without_binding() -> None:
    """Match a path without binding variables, and write back only what a match changes.

    `APIRoute.match_route` binds two context variables to the request for each route it tries, and writes
    the parameters of the path back when there are none.
    """
    match: Callable[[APIRoute, Request], bool] = APIRoute.match_route

    def match_route(self: APIRoute, request: Request) -> bool:
        path = read(var.unmatched_route, request)
        for regex in self.regex_list:
            found = regex.fullmatch(path)
            if found:
                break
        else:
            return False
        rest = found.groupdict()
        if self.header_names or rest.keys() - {"_"}:
            return match(self, request)
        if not self.method:
            var.unmatched_route.setter(request, rest.get("_", ""))
        return True

    APIRoute.match_route = match_route


def try_only_routes_that_match() -> None:
    """Find out once for a path and a method which routes of an API match them, and try no other.

    `API._resolve` tries every route of a class with each request: each endpoint slows the others down. Where
    a path exists without the method, it still tries them all, and so names the methods that there are.
    """
    resolve: Callable[[API], APIRoute] = API._resolve

    @lru_cache(MAX_PATHS)
    def matching(api: type[API], path: str, method: str) -> list[APIRoute]:
        routes = [each for each in api._routes if any(form.fullmatch(path) for form in each.regex_list)]
        if any(each.method == method for each in routes):
            return [each for each in routes if each.method in (None, method)]
        return routes

    def _resolve(self: API) -> APIRoute:
        path = read(var.unmatched_route, self.request)
        if len(path) <= MAX_PATH_LENGTH:
            self._routes = matching(type(self), path, self.request.method)  # type: ignore[arg-type]
        return resolve(self)

    API._resolve = _resolve


def pass_errors_to_hooks_unparsed() -> None:
    """Hand an error to its hook as it is.

    `ErrorHook` has the parameters of each call checked against the hook's annotations, as if they came from
    a client; they are the API and the error that UtilMeta itself has just put there.
    """
    hook.ErrorHook.parse_params = False


def compute_addresses_lazily() -> None:
    """Work out the headers, the URL and the client's address of a request when they are asked for.

    `DjangoRequestAdaptor` does all three at the start of a request, and most requests ask for none.
    """

    class LazyAdaptor:
        @cached_property
        def _headers(self: Any) -> Any:
            return self.request.headers

        @cached_property
        def _url(self: Any) -> Any:
            return self.get_url()

        @cached_property
        def _address(self: Any) -> Any:
            return backend.get_request_ip(self.request.META)

    backend.DjangoRequestAdaptor.__init__ = backend.RequestAdaptor.__init__
    for name in ("_headers", "_url", "_address"):
        setattr(backend.DjangoRequestAdaptor, name, LazyAdaptor.__dict__[name])


PATCHES = (
    bind_variables_with_instances,
    detect_coroutines_by_code_flags,
    prepare_plugins_once,
    match_routes_without_binding,
    try_only_routes_that_match,
    pass_errors_to_hooks_unparsed,
    compute_addresses_lazily,
)
