"""What UtilMeta's patched parts answer to callers of every kind, printed: python -m tests.internals.

The service itself asks for only some of it; an API that is added to it may ask for all.
"""

import asyncio

import server  # noqa: F401  (first, as a WSGI server does)

# isort: split
from django.test import RequestFactory
from utilmeta.core.orm import Database
from utilmeta.core.request import Request
from utilmeta.core.request.backends.django import DjangoRequestAdaptor
from utilmeta.core.request.var import RequestContextVar
from utilmeta.utils import awaitable


def which() -> str:
    """Say what calls."""
    return "function"


@awaitable(which)
async def which() -> str:
    """Say what calls."""
    return "coroutine"


async def made_by_a_coroutine(request: Request) -> str:
    """Return the value of a variable, as a factory that is a coroutine."""
    return "made"


class ShoutedVar(RequestContextVar):
    """A variable that is read in a way of its own."""

    def getter(self, request: Request, field: object = None, default: object = None) -> str:
        """Return the value, loud."""
        return f"{request.adaptor.get_context(self.key)}!"


class NamedAdaptor(DjangoRequestAdaptor):
    """An adaptor that says where its headers, its address and its URL come from."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._headers, self._address, self._url = {"X-Name": "value"}, "192.0.2.1", "http://named.example/"


def a_request(path: str = "/api/user?a=b", **headers: str) -> Request:
    """Return a request as the Django backend makes it."""
    return Request(
        DjangoRequestAdaptor(RequestFactory(SERVER_NAME="127.0.0.1").get(path, **headers), route="user")
    )


def ask_about_variables() -> None:
    """Print what a variable that is bound to a request answers."""
    variable = RequestContextVar("_test", default="default")
    bound = variable.setup(a_request())
    print(bound.contains(), bound.get())
    bound.set("value")
    print(bound.contains(), bound.get())
    bound.delete()
    print(bound.contains(), bound.get())
    constant = RequestContextVar("_constant", static=True).setup(a_request())
    constant.set(1)
    constant.set(2)
    constant.delete()
    print(constant.get())
    shouted = ShoutedVar("_shouted").setup(a_request())
    shouted.set("value")
    print(shouted.contains(), shouted.get())


async def ask_as_a_coroutine() -> None:
    """Print what a coroutine is answered, by itself and from what it nests."""
    bound = RequestContextVar("_made", factory=made_by_a_coroutine, cached=True).setup(a_request())
    print(await bound.get(), bound.contains(), await bound.get())
    print(await which(), [await each for each in [which() for _ in range(2)]])
    print(await next(which() for _ in range(1)))


def ask_about_addresses() -> None:
    """Print the headers, the URL and the addresses of requests."""
    for headers in (
        {},
        {"HTTP_X_FORWARDED_FOR": "203.0.113.9, 127.0.0.1"},
        {"HTTP_X_FORWARDED_FOR": "nonsense", "REMOTE_ADDR": "2001:db8::1"},
        {"HTTP_HOST": "localhost:8000", "HTTP_X_NAME": "value"},
    ):
        adaptor = a_request(**headers).adaptor
        print(
            dict(adaptor.headers), adaptor.url, adaptor.address, adaptor.route, adaptor.args, adaptor.kwargs
        )
        print(adaptor.url == adaptor.url, adaptor.address == adaptor.address)
    named = NamedAdaptor(a_request().adaptor.request)
    print(named.headers, named.address, named.url)


def ask_for_an_asynchronous_database() -> None:
    """Print the adaptors of a database."""
    for asynchronous in (True, False, True):
        adaptor = Database("name", engine="sqlite3").get_adaptor(asynchronous)
        print(type(adaptor).__module__, type(adaptor).__name__, adaptor.asynchronous)


if __name__ == "__main__":
    ask_about_variables()
    print(which(), [which() for _ in range(2)], next(which() for _ in range(1)))
    asyncio.run(ask_as_a_coroutine())
    ask_about_addresses()
    ask_for_an_asynchronous_database()
