"""The demo in two columns: without the shim on the left, with it on the right, both streaming at once."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from shim.demo.words import CLOSING, INTRODUCTION

if TYPE_CHECKING:
    from shim.demo.scenes import Scene
    from shim.demo.sides import Side

_MAX_WIDTH: Final = 100
_FRAME_SECONDS: Final = 0.04


def show_introduction() -> None:
    """Print what is shown."""
    _console().print(Text(INTRODUCTION, style="dim"))


def show_scenes(scenes: list[tuple[Scene, Side, Side]]) -> None:
    """Play the scenes, one after another."""
    console = _console()
    for number, (scene, before, after) in enumerate(scenes, 1):
        title = f"{number}  {scene.title}"
        threads = [threading.Thread(target=side.play, args=(scene,), daemon=True) for side in (before, after)]
        for thread in threads:
            thread.start()
        if console.is_terminal:
            _follow(console, title, scene, before, after, threads)
        for thread in threads:
            thread.join()
        if not console.is_terminal:
            console.print(_draw(title, scene, before, after))
    console.print()
    console.print(Text(CLOSING, style="bold"))


def _console() -> Console:
    console = Console(highlight=False, markup=False, emoji=False)
    console.width = min(console.width, _MAX_WIDTH)
    return console


def _follow(
    console: Console, title: str, scene: Scene, before: Side, after: Side, threads: list[threading.Thread]
) -> None:
    """Draw the scene again and again until both sides have ended."""
    with Live(console=console, auto_refresh=False) as live:
        while any(thread.is_alive() for thread in threads):
            live.update(_draw(title, scene, before, after), refresh=True)
            time.sleep(_FRAME_SECONDS)
        live.update(_draw(title, scene, before, after), refresh=True)


def _draw(title: str, scene: Scene, before: Side, after: Side) -> RenderableType:
    table = Table(box=None, expand=True, pad_edge=False, padding=(0, 1))
    for side, style in ((before, "bold red"), (after, "bold green")):
        table.add_column(side.name, header_style=style, ratio=1, overflow="fold")
    if before.text or after.text:
        table.add_row(Text(before.text), Text(after.text))
    table.add_row(_outcome(before), _outcome(after))
    lines: list[RenderableType] = [
        Text(),
        Rule(Text(title, style="bold"), align="left", style="dim"),
        Text(scene.cause, style="dim"),
        Text(),
        table,
    ]
    if after.report is not None:
        lines += [Text(), Text(str(after.report), style="dim")]
    return Group(*lines)


def _outcome(side: Side) -> RenderableType:
    if not side.outcome:
        return Text()
    mark, style = ("✓", "green") if side.is_right else ("✗", "red")
    row = Table.grid(padding=(0, 1))
    row.add_row(Text(mark, style=style), Text(side.outcome, style=style))
    return row
