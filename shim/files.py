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

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


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


def read_small(path: Path, limit: int, *, own: bool = False) -> bytes:
    """The content of a file of an ordinary kind and size.

    Args:
        path: The file.
        limit: The most bytes that it may have.
        own: Whether it has to be a file that only this user may write, and no link to one.

    Raises:
        OSError: It cannot be read.
        ValueError: It is of another kind or size, or somebody else's.
    """
    # Opening a FIFO would wait for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if own:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    with open(os.open(path, flags), "rb") as file:  # noqa: PTH123 - of a descriptor
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not a regular file")
        if own and hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & _WRITABLE_BY_OTHERS):
            raise ValueError("belongs to another user, or others may write to it")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"is larger than {limit} bytes")
    return content


def may_others_use(path: Path) -> bool:
    """Whether other users may read or change a file; False where that is unknown."""
    try:
        status = path.stat()
    except OSError:
        return False
    # A pipe, as a shell makes it of a password manager's output, is read once.
    return hasattr(os, "getuid") and stat.S_ISREG(status.st_mode) and bool(status.st_mode & _OTHERS)


def require_private(folders: Iterable[Path], remedy: str) -> None:
    """Check that nobody else can have put anything into folders from which files are used.

    Args:
        folders: Those that exist are checked.
        remedy: What to do where one is somebody else's.

    Raises:
        ServiceError: A folder belongs to somebody else, or others may write to it.
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
        # The group that a user's own folders have by default is often the user's alone.
        others = stat.S_IWOTH if status.st_gid == os.getgid() else _WRITABLE_BY_OTHERS
        if status.st_mode & others and not status.st_mode & stat.S_ISVTX:
            raise ServiceError(f"Other users may write to the folder {folder}.", remedy=remedy)
