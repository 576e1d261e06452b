"""The messages of the transport's errors: what happened, to what, and what to do next."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from shim.core.error_bodies import quote_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shim.transport.lookup import KnownModels

NOTHING_ANSWERS: Final = "Nothing answers at "

# "Model not loaded: …" and "Model not found: …" (2.x), "No OpenAIService provider found for modelName:x" (0.x).
_UNKNOWN_MODEL: Final = re.compile(r"\bmodel not (?:loaded|found)\b|no openaiservice provider found", re.IGNORECASE)
# "Model 'x' is not loaded" and "The model 'x' does not exist" (1.x), "Model x not found" (0.10).
_UNKNOWN_NAME: Final = r"\bmodel ['\"`]?{}['\"`]?(?::\d+)? (?:is not loaded|(?:is |was )?not found|does not exist)"

_LONGEST_NAME: Final = 1000


def is_about_unknown_model(message: str, model: str) -> bool:
    """Whether an error's message states that the model with this name is missing or not loaded."""
    if _UNKNOWN_MODEL.search(message) is not None:
        return True
    if len(model) > _LONGEST_NAME or model.lower() not in message.lower():  # a pattern takes long to compile
        return False
    return re.search(_UNKNOWN_NAME.format(re.escape(model)), message, re.IGNORECASE) is not None


def unknown_model(
    place: str, name: str, said: str, matches: Sequence[str], known: KnownModels, local: str | None
) -> str:
    """The model is not there.

    Args:
        place: The service and its address.
        name: The model's name.
        said: The message of the service's error.
        matches: The ids that the name may stand for.
        known: The models of the service.
        local: The base URL of the local catalog, if the service may have one.
    """
    details = "; ".join(filter(None, (said, known.describe())))
    several = f", a name that stands for several: {', '.join(sorted(matches))}" if len(matches) > 1 else ""
    choose = "Use an id from the list exactly as it is written there, or load" if known.names else "Load"
    more = f", or use {local} as the base URL if a program has registered it" if local else ""
    return (
        f"{place} does not serve the model '{name}'{several} ({details}). "
        f"{choose} the model first with `foundry model run <alias>`{more}."
    )


def empty_answer(place: str, status: int, *, may_be_another: bool) -> str:
    """The service accepted the request, and sent nothing.

    Args:
        place: The service and its address.
        status: The HTTP status of its response.
        may_be_another: Whether the service was looked at, and lists no models.
    """
    doubt = ", or it is not Foundry Local, which moves to a new port at each start" if may_be_another else ""
    return (
        f"{place} answered with status {status} and an empty body. Known reasons are more tokens than the model has "
        "room for, no messages, a model that is still being loaded, and a device that the model does not run "
        f"on{doubt}; the service's log has more."
    )


def no_stream(place: str, status: int, opening: bytes) -> str:
    """The service accepted the request, and sent something else than a stream."""
    return (
        f"{place} answered with status {status} and a body that has no event of a stream{quote_text(opening)}, such as "
        "the page of another program. Check the address (`foundry-shim doctor` finds it) and the service's log."
    )


def service_gone(place: str) -> str:
    """The service ended the connection, and cannot be reached since."""
    return (
        f"{place} closed the connection without a response and does not answer any more. It has crashed, hung or is "
        "overloaded: restart it, and expect it at a new port."
    )


def stalled(place: str, seconds: float, error: Exception) -> str:
    """Neither the stream nor the same request without streaming brought a response."""
    return (
        f"{place} did not start the stream within {seconds:g} s, and failed without streaming as well "
        f"({type(error).__name__}: {error}). Restart it, or wait longer with a larger stream_deadline."
    )


def not_an_object(line: str, content: bytes) -> str:
    """A response is not what the API promises."""
    said = quote_text(content)
    return f"The response to {line} is not a JSON object{said}. Check the address, and the service's log."


def nothing_answers(origin: str, variables: Sequence[str], error: Exception) -> str:
    """The connection was refused.

    Args:
        origin: Where nothing listens.
        variables: The environment variables that name this address.
        error: The error of the connection.
    """
    named = f", the address in {' and '.join(variables)}" if variables else ""
    return (
        f"{NOTHING_ANSWERS}{origin}{named} ({error}). Foundry Local is not running, or has moved to another port, as "
        "it does at each start: `foundry-shim doctor` finds it."
    )


def wrong_address(place: str, line: str, base_url: str, local: str | None) -> str:
    """The service has no API at the path of the request.

    Args:
        place: The service and its address.
        line: The method and path of the request.
        base_url: The base URL that belongs to it.
        local: That of the local catalog, if the service may have one.
    """
    more = f", or {local} for a model that was registered with the service" if local else ""
    return f"{place} has no API at {line.partition(' ')[2]}: use {base_url} as the base URL{more}."
