"""Recorded streams of Foundry Local, shown with the official client and with the shim.

The recordings are the bytes of a real Foundry Local 1.2.4 with their times, in the format of `foundry-shim capture`. A
server on this machine plays them to both clients, so neither a service nor a model nor a download is needed.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from io import TextIOWrapper

from shim.demo.scenes import SCENES, play_server
from shim.demo.sides import Side


def run() -> int:
    """Show every scene on standard output; return the exit code: 0 if the shim did what each scene promises."""
    if isinstance(output := sys.stdout, TextIOWrapper):
        output.reconfigure(errors="replace")  # a pipe may not know every character
    # The columns need rich, of the extra `cli`.
    if find_spec("rich"):
        from shim.demo.columns import show_columns as show  # noqa: PLC0415 - imports rich
    else:
        from shim.demo.plain import show_plain as show  # noqa: PLC0415 - the other one of two
    with play_server() as base_url:
        scenes = [(scene, Side("openai.OpenAI", base_url), Side("shim.OpenAI", base_url)) for scene in SCENES]
        show(scenes)
    return 0 if all(after.is_right for _, _, after in scenes) else 1
