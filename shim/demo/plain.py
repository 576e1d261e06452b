"""The demo as plain text: each scene without the shim, then with it."""

from __future__ import annotations

import sys
from textwrap import fill
from typing import TYPE_CHECKING, Final

from shim.demo.words import CLOSING, INTRODUCTION

if TYPE_CHECKING:
    from shim.demo.scenes import Scene
    from shim.demo.sides import Side

_WIDTH: Final = 80


def show_introduction() -> None:
    """Print what is shown."""
    _print(INTRODUCTION)


def show_scenes(scenes: list[tuple[Scene, Side, Side]]) -> None:
    """Play the scenes and print what is received, as it is received."""
    for number, (scene, before, after) in enumerate(scenes, 1):
        _print(f"\n{number}. {scene.title}\n   {scene.cause}\n")
        for side in (before, after):
            _print(f"{side.name}:")
            side.play(scene, _write)
            mark = "+" if side.is_right else "!"
            text = "\n" if side.text and not side.text.endswith("\n") else ""
            _print(text + _wrap(f"{mark} {side.outcome}"))
        if after.report is not None:
            _print(_wrap(f"= {after.report}"))
    _print(f"\n{CLOSING}")


def _wrap(line: str) -> str:
    return fill(line, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _print(line: str) -> None:
    _write(f"{line}\n")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
