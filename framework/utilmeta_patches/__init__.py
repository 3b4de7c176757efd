"""Patches of UtilMeta, and a deferred import; server.py imports this before any other part of UtilMeta."""

import logging
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

import utilmeta
import utype

from config import EXIT_CODE, settings

# The versions of UtilMeta with which the suite has passed with the patches and without.
TESTED_VERSIONS = ("2.8.1",)
TESTED_UTYPE_VERSIONS = ("0.6.8",)  # on Python 3.14
SLOW_PATHS_PATCHED = settings.utilmeta_patches and utilmeta.__version__ in TESTED_VERSIONS
DEFERRED_MODULE, DEFERRED_CLASS = "utilmeta.core.orm.databases.encode", "EncodeDatabasesAsyncAdaptor"

logger = logging.getLogger("demo-user")


def patch_slow_paths() -> None:
    """Apply the patches, or warn that they were not tested with this version of UtilMeta."""
    if SLOW_PATHS_PATCHED:
        from . import slow_paths  # not before: another version may lack what they change

        slow_paths.apply()
    elif settings.utilmeta_patches:
        logger.warning("utilmeta_unpatched", extra={"fields": {"version": utilmeta.__version__}})


def patch_for_python_314() -> None:  # pragma: no cover  (of Python 3.14)
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


class DeferredAdaptor:
    """The adaptor of asynchronous databases, imported when one is made.

    `utilmeta.core.orm.databases.config` imports it with all of SQLAlchemy, a fifth of a worker's memory, also
    for a service that is not asynchronous. It imports the synchronous adaptor when one is made, in this way.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return an adaptor."""
        if isinstance(getattr(sys.modules[DEFERRED_MODULE], DEFERRED_CLASS), DeferredAdaptor):
            del sys.modules[DEFERRED_MODULE]
        return getattr(import_module(DEFERRED_MODULE), DEFERRED_CLASS)(*args, **kwargs)


if sys.version_info >= (3, 14):  # pragma: no cover
    patch_for_python_314()

if SLOW_PATHS_PATCHED and DEFERRED_MODULE not in sys.modules:
    sys.modules[DEFERRED_MODULE] = ModuleType(DEFERRED_MODULE)
    setattr(sys.modules[DEFERRED_MODULE], DEFERRED_CLASS, DeferredAdaptor())
