"""The service that a command uses: the named one, a running one, or one that is started here."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from shim.cli.output import LOOKING, note, printable, waiting
from shim.errors import ServiceError
from shim.offline import fetch as offline
from shim.offline.steps import Steps
from shim.service.find import ENDPOINT_VARIABLE
from shim.service.start import FoundryLocal, Service

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def open_service(model: str | None, base_url: str | None, model_path: str | None) -> Generator[Service]:
    """A service that answers: what is started here stops with the block.

    Raises:
        ServiceError: None answers or starts.
        typer.BadParameter: The options exclude each other.
    """
    service = _find_or_start(model, base_url, model_path)
    try:
        yield service
    finally:
        if isinstance(service, FoundryLocal):  # it was started here
            with waiting("Stopping Foundry Local …"):
                service.stop()


def _find_or_start(model: str | None, base_url: str | None, model_path: str | None) -> Service:
    if model_path and (base_url or model):
        raise typer.BadParameter("cannot be combined with --base-url or --model", param_hint="--model-path")
    if base_url:
        with waiting(LOOKING):
            return FoundryLocal.attach(model, base_url=base_url)
    if not model_path and (running := running_service(model)):
        return running
    with Steps() as steps:
        if model_path:
            steps("Starting Foundry Local with your model …")
            return FoundryLocal(model_path=model_path).start()
        note("No service runs.", style="dim")
        if model:
            steps("The first start with a model downloads it.")
            steps(f"Starting Foundry Local with {printable(model)} …")
            return FoundryLocal(model, progress=steps.show_percent).start()
        return offline.start_default_model(progress=steps.show_percent, report=steps)


def running_service(model: str | None = None) -> Service | None:
    """A running service, if one is found.

    Raises:
        ServiceError: The environment names one, and it does not answer.
    """
    try:
        with waiting(LOOKING):
            return FoundryLocal.attach(model)
    except ServiceError:
        if os.environ.get(ENDPOINT_VARIABLE):
            raise
        return None
