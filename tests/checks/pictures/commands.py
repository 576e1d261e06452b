"""What commands print: the demo, and the doctor on a real Foundry Local 1.2.4."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.text import Text

from checks.pictures import terminal
from support.commands import command, lonely
from support.service import LiveService

RELEASE = "1.2.4"
SECOND_SCENE = "2  "
DOCTOR_COLUMNS = 100
DOCTOR_LINES = 17


def draw_demo(folder: Path) -> list[Path]:
    """Draw the first scene of the demo."""
    lines = _run("demo")
    end = next(number for number, line in enumerate(lines) if line.plain.startswith(SECOND_SCENE))
    return _draw(folder, "demo", lines[:end])


def draw_doctor(folder: Path) -> list[Path]:
    """Draw the doctor, as far as it looks at the service."""
    with LiveService(RELEASE) as service:
        lines = _run("doctor", "--base-url", service.base_url, columns=DOCTOR_COLUMNS)
    return _draw(folder, "doctor", lines[:DOCTOR_LINES], columns=DOCTOR_COLUMNS)


def _run(*arguments: str, columns: int = terminal.COLUMNS) -> list[Text]:
    with TemporaryDirectory() as home:
        env = {**lonely(Path(home)), "PYTHONPATH": os.pathsep.join(sys.path[:2])}
        del env["NO_COLOR"]
        return terminal.run(command(*arguments), env, columns=columns)


def _draw(folder: Path, name: str, lines: Sequence[Text], *, columns: int = terminal.COLUMNS) -> list[Path]:
    lines = list(lines)
    while lines and not lines[-1].plain:
        lines.pop()
    drawn = []
    for theme_name, theme in terminal.THEMES.items():
        path = folder / f"{name}-{theme_name}.svg"
        path.write_text(terminal.picture(f"foundry-shim {name}", lines, theme, columns=columns), encoding="utf-8")
        drawn.append(path)
    return drawn
