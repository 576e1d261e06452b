"""The shim's exceptions, and the one builder of OpenAI's error object.

A failure of a stream reaches the program as an exception of `openai`: the shim writes OpenAI's error object as an
event, and every major of the official client (1.x, 2.x and 3.x) turns that into `openai.APIError`. Only what does not
concern a response (starting a service, a missing package) is raised as an exception of the shim's own.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any, Final

# `search_options.cc:22 void fl::{anonymous}::ValidateTemperature(float) `, as the C++ parts put before a message.
_SOURCE_LOCATION: Final = re.compile(r"\b\w{1,100}\.(?:cc|cpp|h):\d{1,6} [^\n]{0,300}?\) (?:const )?")


def without_source_location(message: str) -> str:
    """The message without the place in Foundry Local's own source that its C++ part puts before it."""
    return _SOURCE_LOCATION.sub("", message, count=1)


def causes(error: BaseException | None) -> list[BaseException]:
    """The error, what caused it, what caused that, and so on; each once, since two may name each other."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def error_object(
    message: str,
    *,
    type: str = "server_error",  # noqa: A002 - the name of the field
    code: str | None = None,
    param: str | None = None,
) -> dict[str, Any]:
    """Build OpenAI's error object (API reference, "Error codes").

    Args:
        message: What happened, to what, and what to do next.
        type: The kind of error, such as ``server_error`` or ``invalid_request_error``.
        code: A stable, lower-case word, or None.
        param: The request field that is at fault, or None.
    """
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


class StreamError(Exception):
    """A stream failed or could not be repaired.

    Attributes:
        message: What happened, to what, and what to do next. Never holds text of a prompt or an answer.
        code: A stable, lower-case word such as ``stream_truncated``.
    """

    def __init__(self, message: str, *, code: str) -> None:
        """Keep the message and the code."""
        super().__init__(message)
        self.message = message
        self.code = code

    def as_object(self) -> dict[str, Any]:
        """The same as OpenAI's error object."""
        return error_object(self.message, code=self.code)


class ServiceError(Exception):
    """Foundry Local could not be found, started or used.

    Attributes:
        message: What happened, to what.
        remedy: What to do next.
    """

    def __init__(self, message: str, *, remedy: str) -> None:
        """Keep both sentences; together they are the error's text."""
        super().__init__(f"{message} {remedy}")
        self.message = message
        self.remedy = remedy


class CatalogUnreachableError(ServiceError):
    """Foundry's model catalog could not be read, and no model of that name is in the cache."""


class MissingExtraError(ServiceError, ImportError):
    """A package that belongs to an extra of the shim is not installed."""

    def __init__(self, extra: str, *, missing: str) -> None:
        """Name the missing package and the command that installs the extra."""
        from shim.origin import install_command  # noqa: PLC0415 - for this message only

        super().__init__(
            f"This needs the package {missing}, which is not installed.",
            remedy=f"Install it with: {install_command(extra)}",
        )
        self.extra = extra


def import_extra(extra: str, package: str) -> Any:
    """Import a package that belongs to an extra.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise MissingExtraError(extra, missing=package) from error
