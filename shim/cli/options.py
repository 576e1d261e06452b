"""Options that several commands share.

This module loads nothing but typer, so that `--help` is quick.
"""

import os
from typing import Annotated

import typer


def not_empty(text: str | None) -> str | None:
    """The value of an option, which may be absent.

    Raises:
        typer.BadParameter: It is empty, as that of a variable that is not set.
    """
    if text is not None and not text.strip():
        raise typer.BadParameter("must not be empty")
    return text


BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url", metavar="URL", callback=not_empty, help="A running service, such as http://localhost:5273/v1."
    ),
]
Model = Annotated[
    str | None, typer.Option("--model", "-m", metavar="NAME", help="The alias or id of the model, such as phi-4-mini.")
]
ModelPath = Annotated[
    str | None,
    typer.Option("--model-path", metavar="FOLDER", help="Serve the model in this folder (ONNX Runtime GenAI)."),
]
ApiKeyEnv = Annotated[
    str | None,
    typer.Option("--api-key-env", metavar="NAME", help="Send the API key in this environment variable to --base-url."),
]


def api_key_from(variable: str | None, base_url: str | None) -> str | None:
    """The API key to send; no other key of the environment is sent.

    Raises:
        typer.BadParameter: The variable is not set, or no address is given: a discovered service gets no key.
    """
    if variable is None:
        return None
    if not base_url:
        raise typer.BadParameter("only with --base-url: a discovered service gets no key", param_hint="--api-key-env")
    if not (key := os.environ.get(variable)):
        raise typer.BadParameter(f"the environment variable {variable} is not set", param_hint="--api-key-env")
    return key
