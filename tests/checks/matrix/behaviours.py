"""What is tried, and what is right: stated here, before anything is asked."""

from dataclasses import dataclass, field
from typing import Any

from support.scripted_model import WEATHER

DIED = "the service dies"
CLIENTS = ("plain", "shim")
MODES = ("sync", "async")
UNKNOWN_MODEL = "no-such-model"
CALLS = {"tool": ["Paris"], "tools": ["Paris", "Rome"], "array": ["Paris"]}


@dataclass(frozen=True)
class Behaviour:
    """A row of the table.

    Attributes:
        title: Its heading.
        method: What is called: "create", "stream" (the helper), "responses" or "models".
        script: What the model is made to say.
        options: Further arguments of the call.
        retried: Whether the client may ask again as often as it does by default; then the requests are counted.
        guarded: Whether the program takes care of chunks without choices.
        reason: A pattern of what the message of an error must hold to say why.
    """

    title: str
    method: str = "create"
    script: str = "haiku"
    options: dict[str, Any] = field(default_factory=dict)
    retried: bool = False
    guarded: bool = False
    reason: str = ""


BEHAVIOURS = {
    behaviour.title: behaviour
    for behaviour in (
        Behaviour("plain stream"),
        Behaviour("`.stream()` helper", "stream"),
        Behaviour("tools, one call", script="tool", options={"tools": [WEATHER]}),
        Behaviour("tools, two calls", script="tools", options={"tools": [WEATHER]}),
        Behaviour("tools, `required`", script="array", options={"tools": [WEATHER], "tool_choice": "required"}),
        Behaviour("usage asked for", options={"stream_options": {"include_usage": True}}, guarded=True),
        Behaviour("usage not asked for", guarded=True),
        Behaviour("bad parameter", options={"temperature": 99}, reason="temperature"),
        Behaviour("unknown model", options={"model": UNKNOWN_MODEL}, retried=True),
        Behaviour("too many tokens", options={"max_tokens": 400_000}, retried=True, reason="token"),
        Behaviour("model list", "models"),
        Behaviour("responses stream", "responses"),
    )
}


def right_outcome(title: str, release: str) -> str:
    """Return what a person should see, as the documents promise: OpenAI's own behaviour, whatever the release."""
    first_generation = release.startswith("1.")
    # The errors of 2.0.1 carry the type of a failure of the server, and so does its answer without streaming: 500.
    refusal = "InternalServerError 500" if release == "2.0.1" else "BadRequestError 400"
    if title == "bad parameter":
        # 1.x ignores the temperature, so there is nothing to tell.
        return "whole text" if first_generation else f"{refusal} that says why"
    if title == "too many tokens" and first_generation:
        # Its stream ends without a word; what it says without streaming is a refusal, and nothing in 1.0.0.
        refusal = "InternalServerError 500" if release == "1.0.0" else refusal
        return f"{refusal} that says why, 1 request and 1 without streaming"
    return {
        "plain stream": "whole text",
        "`.stream()` helper": "whole text",
        "tools, one call": "1 call",
        "tools, two calls": "2 calls",
        "tools, `required`": "1 call",
        "usage asked for": "usage once, at the end",
        "usage not asked for": "no usage",
        "unknown model": "NotFoundError 404 that names it and what is loaded, 1 request",
        "too many tokens": f"{refusal} that says why, 1 request",
        "model list": "the model",
        "responses stream": "whole text",
    }[title]


@dataclass(frozen=True)
class Cell:
    """One thing to try: a behaviour with the plain client or the shim's, sync or async."""

    title: str
    client: str
    mode: str


def cells() -> list[Cell]:
    """Return everything to try with one release and one major of the client."""
    return [Cell(title, client, mode) for title in BEHAVIOURS for client in CLIENTS for mode in MODES]
