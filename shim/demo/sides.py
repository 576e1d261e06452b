"""One client in a scene: it runs the scene's program, and records what a user would see."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final

import openai

import shim

if TYPE_CHECKING:
    from collections.abc import Callable

    from shim.demo.scenes import Scene
    from shim.reports import RepairReport

_CLIENTS: Final = {"openai.OpenAI": openai.OpenAI, "shim.OpenAI": shim.OpenAI}


class Side:
    """A client, and what its program has shown so far.

    Attributes:
        name: The class of the client.
        text: What the program has printed.
        outcome: How it ended; empty while it runs.
        is_right: Whether the result is the right one.
        report: What was repaired, with the shim.
    """

    def __init__(self, name: str, base_url: str) -> None:
        """Take the client's class and the address of the recorded service."""
        self.name = name
        self.text = ""
        self.outcome = ""
        self.is_right = False
        self.report: RepairReport | None = None
        self._base_url = base_url

    def play(self, scene: Scene, show: Callable[[str], object] = str) -> None:
        """Run the scene's program to its end; what it prints is passed to `show` as well."""
        with shim.capture_repairs() as captured, self._client() as client:
            outcome: str | Exception
            try:
                outcome = self._run(scene, client, show)
            except Exception as error:  # noqa: BLE001 - whatever the program gets is what the demo shows
                outcome = error
        self.is_right = scene.is_right(outcome)
        self.outcome = outcome if isinstance(outcome, str) else f"{type(outcome).__name__}: {outcome}"
        if captured.reports:
            self.report = captured.reports[0]

    def _client(self) -> Any:
        # The proxies of the environment are for other machines. Without a retry, since it ends the same.
        # No certificates are loaded, which takes 20 ms a client: the recording is played without TLS.
        http_client = openai.DefaultHttpxClient(trust_env=False, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        return _CLIENTS[self.name](base_url=self._base_url, api_key="none", max_retries=0, http_client=http_client)

    def _run(self, scene: Scene, client: openai.OpenAI, show: Callable[[str], object]) -> str:
        program = scene.program(client, scene.request())
        while True:
            try:
                piece = next(program)
            except StopIteration as end:
                return end.value
            self.text += piece
            show(piece)
