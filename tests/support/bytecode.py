"""Compiled modules, for all the programs that a test run starts."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def keep_for_this_run() -> Callable[[], None]:
    """Keep compiled modules in a folder of this run, if the environment says that none are written beside the source.

    Otherwise every program compiles all of the shim again, which takes longer than most of them run.

    Returns:
        A function that removes the folder.
    """
    if not sys.dont_write_bytecode:
        return lambda: None
    folder = tempfile.TemporaryDirectory(prefix="foundry-shim-bytecode-", ignore_cleanup_errors=True)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = folder.name
    sys.dont_write_bytecode = False
    return folder.cleanup
