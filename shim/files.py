"""Files and folders that belong to the user alone."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from shim.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterable


def write_private(path: Path, content: bytes, *, overwrite: bool = False) -> None:
    """Write a file that only its owner may read; a link in its place is never followed.

    Args:
        path: The file.
        content: What is written.
        overwrite: Whether an existing file is replaced, in one step.

    Raises:
        FileExistsError: The file exists, and is not to be replaced.
        OSError: It cannot be written.
    """
    if not overwrite:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags, 0o600)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - of a descriptor
                file.write(content)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # its mode is 0600
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - the same
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def require_private(folders: Iterable[Path], remedy: str) -> None:
    """Check that nobody else can have put anything into folders from which files are used.

    Args:
        folders: Those that exist are checked.
        remedy: What to do where one is somebody else's.

    Raises:
        ServiceError: A folder belongs to somebody else, or everybody may write to it.
        OSError: A folder cannot be looked at.
    """
    if not hasattr(os, "getuid"):  # Windows keeps a user's folders apart by itself
        return
    trusted = {os.getuid(), 0}
    for folder in folders:
        if not os.path.lexists(folder):
            continue
        status = folder.stat()
        if not {status.st_uid, folder.lstat().st_uid} <= trusted:
            raise ServiceError(f"The folder {folder} belongs to another user.", remedy=remedy)
        if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
            raise ServiceError(f"Every user may write to the folder {folder}.", remedy=remedy)
