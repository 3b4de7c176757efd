"""What UtilMeta imports and nothing here uses, put off until it is asked for; to be imported first."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

import utilmeta

from config import settings

# Those with which the suite has passed with this and the patches, and without.
TESTED_VERSIONS = ("2.8.1",)
MODULE, CLASS = "utilmeta.core.orm.databases.encode", "EncodeDatabasesAsyncAdaptor"


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


if settings.utilmeta_patches and utilmeta.__version__ in TESTED_VERSIONS and MODULE not in sys.modules:
    sys.modules[MODULE] = ModuleType(MODULE)
    setattr(sys.modules[MODULE], CLASS, Later())
