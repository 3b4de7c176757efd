"""Patches of UtilMeta, and an import that is put off; server.py imports this before UtilMeta itself."""

import logging
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

import utilmeta

from config import settings

# Those with which the suite has passed with the patches and without.
TESTED_VERSIONS = ("2.8.1",)
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


if PATCHED and MODULE not in sys.modules:
    sys.modules[MODULE] = ModuleType(MODULE)
    setattr(sys.modules[MODULE], CLASS, Later())
