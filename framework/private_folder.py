"""A folder among the temporary files that its user alone can enter."""

import errno
import os
import tempfile
from pathlib import Path


def private_folder(name: str) -> Path:
    """Return the folder of this name and this user, which is made if it is missing.

    Raises OSError if it cannot be made, or somebody else has made it before: the folder around it may be one
    that everybody can write to.
    """
    folder = Path(tempfile.gettempdir(), f"{name}-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.lstat().st_uid != os.getuid():
        raise OSError(errno.EPERM, "the folder belongs to somebody else", str(folder))
    return folder
