"""The service that a command uses: the named one, a running one, or one that is started here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from shim.cli.output import note, to_stderr
from shim.errors import ServiceError
from shim.offline import fetch as offline
from shim.service.find import ENDPOINT_VARIABLE
from shim.service.start import FoundryLocal, Service

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from rich.console import Console


def open_service(model: str | None, base_url: str | None, model_path: str | None) -> Service:
    """A service that answers, for a ``with`` block: what is started here stops with the block.

    Raises:
        ServiceError: None answers or starts.
        typer.BadParameter: The options exclude each other.
    """
    if model_path and (base_url or model):
        raise typer.BadParameter("cannot be combined with --base-url or --model", param_hint="--model-path")
    if base_url is not None and not base_url.strip():
        raise typer.BadParameter("the address must not be empty")
    if base_url:
        return FoundryLocal.attach(model, base_url=base_url)
    if model_path:
        return FoundryLocal(model_path=model_path).start()
    if running := running_service(model):
        return running
    note("No service runs; starting Foundry Local …")
    with DownloadBar(to_stderr()) as bar:
        if model:
            return FoundryLocal(model, progress=bar).start()
        return offline.start_default_model(progress=bar)


def running_service(model: str | None = None) -> Service | None:
    """A running service, if one is found.

    Raises:
        ServiceError: The environment names one, and it does not answer.
    """
    try:
        return FoundryLocal.attach(model)
    except ServiceError:
        if os.environ.get(ENDPOINT_VARIABLE):
            raise
        return None


class DownloadBar:
    """A progress bar on a terminal; elsewhere a line for each tenth. Shows nothing if nothing is downloaded."""

    def __init__(self, console: Console) -> None:
        """Take the console to draw on."""
        self._console = console
        self._reported = -1
        self._bar = Progress(
            TextColumn("Downloading"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), console=console
        )

    def __enter__(self) -> Self:
        """Show nothing before the download starts."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Give the terminal back."""
        if self._bar.tasks:
            self._bar.stop()

    def __call__(self, percent: float) -> None:
        """Show the progress in percent."""
        if self._console.is_terminal:
            if not self._bar.tasks:
                self._bar.add_task("", total=100)
                self._bar.start()
            self._bar.update(self._bar.tasks[0].id, completed=percent)
        elif int(percent) // 10 > self._reported:
            self._reported = int(percent) // 10
            self._console.print(f"Downloading: {self._reported * 10} %")
