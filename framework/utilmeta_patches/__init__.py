"""Patches of UtilMeta, and an import that is put off; server.py imports this before UtilMeta itself."""

import logging
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

import utilmeta
import utype

from config import EXIT_CODE, settings

# Those with which the suite has passed with the patches and without.
TESTED_VERSIONS = ("2.8.1",)
TESTED_UTYPE_VERSIONS = ("0.6.8",)  # on Python 3.14
PATCHED = settings.utilmeta_patches and utilmeta.__version__ in TESTED_VERSIONS
MODULE, CLASS = "utilmeta.core.orm.databases.encode", "EncodeDatabasesAsyncAdaptor"

logger = logging.getLogger("demo-user")


def patch() -> None:
    """Apply the patches, or warn that they were not tested with this version of UtilMeta."""
    if PATCHED:
        from . import slow_paths  # not before: another version may lack what they change

        slow_paths.apply()
    elif settings.utilmeta_patches:
        logger.warning("utilmeta_unpatched", extra={"fields": {"version": utilmeta.__version__}})


def find_annotations() -> None:  # pragma: no cover  (of Python 3.14)
    """Make UtilMeta and utype find the annotations of classes on Python 3.14.

    Exits with one line where other versions than those tested do not find them by themselves.
    """
    from . import python_314  # which no other Python can import

    if utilmeta.__version__ in TESTED_VERSIONS and utype.__version__ in TESTED_UTYPE_VERSIONS:
        python_314.apply()
    elif not python_314.annotations_are_found():
        installed = f"UtilMeta {utilmeta.__version__} with utype {utype.__version__}"
        tested = f"{TESTED_VERSIONS[-1]} with {TESTED_UTYPE_VERSIONS[-1]}"
        print(
            f"demo-user cannot start: {installed} does not work on Python 3.14; {tested} does.",
            file=sys.stderr,
        )
        sys.exit(EXIT_CODE)


class Later:
    """The adaptor of asynchronous databases, imported when one is made.

    `utilmeta.core.orm.databases.config` imports it with all of SQLAlchemy, a fifth of a worker's memory, also
    for a service that is not asynchronous. It imports the synchronous adaptor just so, when one is made.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return an adaptor."""
        if isinstance(getattr(sys.modules[MODULE], CLASS), Later):
            del sys.modules[MODULE]
        return getattr(import_module(MODULE), CLASS)(*args, **kwargs)


if sys.version_info >= (3, 14):  # pragma: no cover
    find_annotations()

if PATCHED and MODULE not in sys.modules:
    sys.modules[MODULE] = ModuleType(MODULE)
    setattr(sys.modules[MODULE], CLASS, Later())
