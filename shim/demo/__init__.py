"""Recorded streams of Foundry Local, shown with the official client and with the shim.

The recordings are the bytes of a real Foundry Local 1.2.4 with their times, in the format of `foundry-shim capture`. A
server on this machine plays them to both clients, so neither a service nor a model nor a download is needed.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from io import TextIOWrapper


def run() -> int:
    """Show every scene on standard output; return the exit code: 0 if the shim did what each scene promises."""
    if isinstance(output := sys.stdout, TextIOWrapper):
        output.reconfigure(errors="replace")  # a pipe may not know every character
    # The columns need rich, of the extra `cli`.
    if find_spec("rich"):
        from shim.demo import columns as view  # noqa: PLC0415 - imports rich
    else:
        from shim.demo import plain as view  # noqa: PLC0415 - the other one of two
    view.show_introduction()  # before openai is imported, which takes most of a second
    from shim.demo import scenes  # noqa: PLC0415
    from shim.demo.sides import Side  # noqa: PLC0415

    with scenes.play_server() as base_url:
        shown = [(scene, Side("openai.OpenAI", base_url), Side("shim.OpenAI", base_url)) for scene in scenes.SCENES]
        view.show_scenes(shown)
    return 0 if all(after.is_right for _, _, after in shown) else 1
