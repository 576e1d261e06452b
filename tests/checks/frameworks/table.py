"""The results as a person reads them: the table, on the terminal and in docs/frameworks.md."""

from collections.abc import Mapping, Sequence

from checks.frameworks.behaviours import ERROR, FRAMEWORKS, STREAM, TOOL_CALL, TRIES, Framework
from checks.frameworks.runs import Result, Run
from support import tables
from support.tables import Place

PLACE = Place("frameworks")
WRONG = " ✗"
HEADING = ("framework, tested version, how", "without the shim")
NEW_LINE = "<br>"
WITH_SHIM = "with the shim"
USUAL = {STREAM: "whole text, in pieces", TOOL_CALL: "1 call, whole text", ERROR: "names the model and what is loaded"}
"""What nearly every framework gets with the shim: said once, above the table."""
Table = dict[str, list[str]]
"""The cells of each framework, by its link."""


def table_of(run: Run) -> Table:
    """Return the lines of the frameworks that were run."""
    found: dict[str, list[Result]] = {}
    for result in run.results:
        found.setdefault(result.framework, []).append(result)
    return {
        FRAMEWORKS[name].link: _line(FRAMEWORKS[name], run.versions[name], results) for name, results in found.items()
    }


def _line(framework: Framework, version: str, results: Sequence[Result]) -> list[str]:
    seen = {client: _by_try(results, client) for client in ("alone", "shim")}
    with_shim = {what: _with_shim(framework.right(what), seen["shim"][what]) for what in TRIES}
    outcomes = _without(seen["alone"], seen["shim"])
    if unusual := [f"{what}: {outcome}" for what, outcome in with_shim.items() if outcome != USUAL[what]]:
        outcomes.append(f"{WITH_SHIM}: {'; '.join(unusual)}")
    return [NEW_LINE.join((framework.link, version, framework.how)), NEW_LINE.join(outcomes)]


def _by_try(results: Sequence[Result], client: str) -> dict[str, dict[str, str]]:
    """Return the outcomes of a client, by what was tried and by release."""
    seen: dict[str, dict[str, str]] = {what: {} for what in TRIES}
    for result in results:
        if result.client == client:
            seen[result.what][result.release] = result.outcome
    return seen


def _with_shim(right: str, outcomes: Mapping[str, str]) -> str:
    wrong = {release: outcome for release, outcome in outcomes.items() if outcome != right}
    return "; ".join(f"{release}: {outcome}{WRONG}" for release, outcome in wrong.items()) or right


def _without(alone: Mapping[str, Mapping[str, str]], shim: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return what is different where the shim is not there, release by release."""
    parts = []
    for release in alone[TRIES[0]]:
        different = [f"{what}: {alone[what][release]}" for what in TRIES if alone[what][release] != shim[what][release]]
        parts.append(f"{release}: {'; '.join(different) or 'the same'}")
    return parts


def as_markdown(table: Table) -> str:
    """Return the table, in the order of the frameworks."""
    return tables.as_markdown(HEADING, [table[each.link] for each in FRAMEWORKS.values() if each.link in table])


def legend(releases: Sequence[str]) -> str:
    """Return what has to be said about the table."""
    usual = "; ".join(f"{what}: {outcome}" for what, outcome in USUAL.items())
    return (
        f"- With the shim: {usual}. Where that differs, the row states it.\n"
        "- The tool call is whole when the tool was run and the model answered to its result. The error is that of a "
        "model that the service does not have.\n"
        "- Without the shim: only what differs, where the same program has openai's own client, is started without "
        "`foundry-shim run`, or has the service's address instead of the proxy's.\n"
        f"- Tried with Foundry Local {' and '.join(releases)}. Made by `python tests/checks/frameworks --write`."
    )


def with_table(text: str, table: Table, releases: Sequence[str]) -> str:
    """Return the document with the table in its place; frameworks that were not run keep their lines.

    Raises:
        NoPlaceError: There is no such place.
    """
    whole = {**table_in(text), **table}
    return PLACE.filled(text, f"{legend(releases)}\n\n{as_markdown(whole)}")


def table_in(text: str) -> Table:
    """Return the lines of the table in the document.

    Raises:
        NoPlaceError: There is no place for one.
    """
    return {row[0].partition(NEW_LINE)[0]: row for row in tables.rows_in(PLACE.content(text))}


def differences(committed: Table, fresh: Table) -> list[str]:
    """Return a text for each framework that was run and whose line is not the same."""
    return [
        f"{title}: the document says\n  {' | '.join(committed.get(title, ['nothing']))}\nthis run\n  {' | '.join(line)}"
        for title, line in fresh.items()
        if committed.get(title) != line
    ]


def as_text(run: Run) -> str:
    """Return all of it, for the terminal."""
    shim = [result for result in run.results if result.client == "shim"]
    right = sum(result.right for result in shim)
    alone = [result for result in run.results if result.client == "alone"]
    summary = (
        f"With the shim: {right} of {len(shim)} right. "
        f"Without: {sum(result.right for result in alone)} of {len(alone)}."
    )
    not_run = [f"{name}: not run: {reason}" for name, reason in run.not_run.items()]
    return "\n\n".join([as_markdown(table_of(run)), *not_run, summary])
