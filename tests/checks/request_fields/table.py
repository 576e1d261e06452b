"""The table of request fields: made of what the doctor finds, and read from the document."""

from collections.abc import Mapping

from shim.doctor import diagnose
from shim.doctor.request_fields import UNKNOWN
from support.environments import REPOSITORY
from support.scripted_model import marker
from support.tables import Place, as_markdown, heading_and_rows_in

PLACE = Place("request fields")
DOCUMENT = REPOSITORY / "docs" / "releases.md"
_PROMPTS = (marker("haiku"), marker("tool"))


def examine(base_url: str) -> dict[str, str]:
    """Return what a service does with each field: the first known result of two prompts.

    The scripted model answers the first one with text, and the other with a tool call.
    """
    found: dict[str, str] = {}
    for prompt in _PROMPTS:
        for name, result in diagnose(base_url, prompt=prompt).findings[-1].fields.items():
            if found.get(name, UNKNOWN) == UNKNOWN:
                found[name] = result
    return found


def table_of(results: Mapping[str, Mapping[str, str]]) -> str:
    """Return the table: a row for each field, a column for each release."""
    names = next(iter(results.values()))
    rows = [[f"`{name}`", *(result[name] for result in results.values())] for name in names]
    return as_markdown(["request field", *results], rows)


def results_in(text: str) -> dict[str, dict[str, str]]:
    """Return the results in the document's table, by release."""
    (_, *versions), rows = heading_and_rows_in(PLACE.content(text))
    return {
        version: {row[0].strip("`"): row[column] for row in rows} for column, version in enumerate(versions, start=1)
    }
