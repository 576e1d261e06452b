"""The results as a person reads them: on the terminal, and as the tables in docs/releases.md."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence

from checks.matrix.behaviours import BEHAVIOURS, CLIENTS, DIED, right_outcome
from checks.matrix.runs import Result, Run
from support import tables
from support.clients import CLIENTS as ENVIRONMENTS
from support.releases import RELEASES
from support.tables import Place

PLACE = Place("matrix")
NOT_RUN = "not run"
SPAN = " – "  # noqa: RUF001 - the dash of a range, as the document writes it
WRONG = " ✗"
ARROW = " → "
"""Between what the plain client shows and what the shim's does."""
SAME = "the same"
HEADING = ("", "without the shim", "with the shim")
Table = dict[tuple[str, str], str]
"""The text of each cell, by the title of its row and the release of its column."""


def summed_up(results: Sequence[Result]) -> str:
    """Return one text for what the same cell showed under several majors of the client, sync and async."""
    seen = [result for result in results if not result.died]
    if not seen:
        return f"{DIED} (any client)"
    where: dict[str, list[Result]] = {}
    for result in seen:
        where.setdefault(result.outcome, []).append(result)
    if len(where) == 1:
        return seen[0].outcome
    return "; ".join(f"{_clients(found, seen)}: {outcome}" for outcome, found in where.items())


def _clients(found: Sequence[Result], seen: Sequence[Result]) -> str:
    """Name the majors among all of them, with the mode where only one of the modes is meant."""
    names = []
    for major in dict.fromkeys(result.major for result in found):
        modes = [result.cell.mode for result in found if result.major == major]
        all_modes = [result.cell.mode for result in seen if result.major == major]
        names.append(major if modes == all_modes else f"{major} {' and '.join(modes)}")
    return f"openai {', '.join(names)}"


def by_client(results: Iterable[Result], title: str, release: str) -> dict[str, list[Result]]:
    """Return what the plain client and the shim's showed in one cell of the table."""
    found: dict[str, list[Result]] = {client: [] for client in CLIENTS}
    for result in results:
        if (result.cell.title, result.release) == (title, release):
            found[result.cell.client].append(result)
    return found


def table_of(results: Sequence[Result]) -> Table:
    """Return the cells: what the plain client shows and, where that is different, what the shim's does."""
    cells: Table = {}
    for release in dict.fromkeys(result.release for result in results):
        for title in BEHAVIOURS:
            found = by_client(results, title, release)
            plain, shim = summed_up(found["plain"]), summed_up(found["shim"])
            mark = WRONG if any(result.wrong for result in found["shim"]) else ""
            cells[title, release] = (shim if shim == plain else f"{plain}{ARROW}{shim}") + mark
    return cells


def as_markdown(table: Table) -> str:
    """Return a table for each release, one for neighbours that show the same."""
    releases = [release for release in RELEASES if any(column == release for _, column in table)]

    def cells(release: str) -> list[tuple[str, str]]:
        return [(title, table.get((title, release), NOT_RUN)) for title in BEHAVIOURS]

    groups = [(content, list(group)) for content, group in itertools.groupby(releases, cells)]
    return "\n\n".join(
        f"### {_span(group)}\n\n{tables.as_markdown(HEADING, [[title, *_halves(cell)] for title, cell in content])}"
        for content, group in groups
    )


def _halves(cell: str) -> tuple[str, str]:
    """Return what stands in the two columns for a cell."""
    plain, _, shim = cell.partition(ARROW)
    return plain, shim or SAME


def _whole(plain: str, shim: str) -> str:
    """Return the cell for what stands in the two columns."""
    return plain if shim == SAME else f"{plain}{ARROW}{shim}"


def _span(releases: Sequence[str]) -> str:
    return releases[0] if len(releases) == 1 else f"{releases[0]}{SPAN}{releases[-1]}"


def legend() -> str:
    """Return what has to be said about the tables."""
    clients = ", ".join(re.findall(r"openai==([\d.]+)", str([each.installs for each in ENVIRONMENTS.values()])))
    return (
        "- Seen by programs with `openai.OpenAI` and `shim.OpenAI`, and with the asynchronous clients.\n"
        f"- Under openai {clients}; where they differ, the cell names them.\n"
        '- "Odd" names what OpenAI does not send: a constant `id`, a `role` in each delta, further fields.\n'
        "- Made by `python tests/checks/matrix --releases all --write`."
    )


def with_table(text: str, table: Table) -> str:
    """Return the document with the tables in their place.

    Raises:
        NoPlaceError: There is no such place.
    """
    return PLACE.filled(text, f"{legend()}\n\n{as_markdown(table)}")


def table_in(text: str) -> Table:
    """Return the cells of the tables in the document, by each release of a common table.

    Raises:
        NoPlaceError: There is no place for them.
    """
    _, *parts = re.split(r"^### ", PLACE.content(text), flags=re.MULTILINE)
    return {
        (title, release): _whole(plain, shim)
        for part in parts
        for title, plain, shim in tables.rows_in(part)
        for release in _releases(part.partition("\n")[0])
    }


def _releases(heading: str) -> list[str]:
    first, _, last = heading.partition(SPAN)
    releases = list(RELEASES)
    return releases[releases.index(first) : releases.index(last or first) + 1]


def differences(committed: Table, fresh: Table) -> list[str]:
    """Return a line for each cell that is not the same, of the releases that were run."""
    releases = {release for _, release in fresh}
    cells = dict.fromkeys([*fresh, *(cell for cell in committed if cell[1] in releases)])
    return [
        f"{title}, {release}: the document says {committed.get((title, release), NOT_RUN)!r}, "
        f"this run {fresh.get((title, release), NOT_RUN)!r}"
        for title, release in cells
        if committed.get((title, release)) != fresh.get((title, release))
        and f"{DIED} (any client)" not in fresh.get((title, release), "")
    ]


def as_text(run: Run) -> str:
    """Return all of it, for the terminal."""
    parts = [_overview(run.results), *(_row(run.results, title) for title in BEHAVIOURS)] if run.results else []
    deaths = [
        f"{result.release}, {result.cell.title}, {result.cell.client}, openai {result.major} {result.cell.mode}: {DIED}"
        for result in run.results
        if result.died
    ]
    not_run = [f"{name}: {NOT_RUN}: {reason}" for name, reason in run.not_run.items()]
    return "\n\n".join([*parts, *filter(None, map("\n".join, (deaths, not_run))), _summary(run)])


def _overview(results: Sequence[Result]) -> str:
    """Return how many of the tries are right: with the shim, and in brackets with the plain client."""
    releases = list(dict.fromkeys(result.release for result in results))
    rows = [["right with the shim (alone)", *releases]]
    for title in BEHAVIOURS:
        row = [title]
        for release in releases:
            found = by_client(results, title, release)
            right = {client: sum(result.right for result in tries) for client, tries in found.items()}
            row.append(f"{right['shim']}/{len(found['shim'])} ({right['plain']}/{len(found['plain'])})")
        rows.append(row)
    return tables.in_columns(rows)


def _row(results: Sequence[Result], title: str) -> str:
    """Return what each release shows, with one entry for neighbours that show the same."""
    releases = dict.fromkeys(result.release for result in results)
    entries = itertools.groupby(releases, lambda release: _entry(by_client(results, title, release)))
    width = max(map(len, RELEASES)) * 2 + len(SPAN)
    lines = [title]
    for (plain, shim), group in entries:
        lines += [f"  {_span(list(group)):{width}}  alone     {plain}", f"  {'':{width}}  with shim {shim}"]
    return "\n".join(lines)


def _entry(found: Mapping[str, Sequence[Result]]) -> tuple[str, str]:
    shim = summed_up(found["shim"])
    wrong = next((result for result in found["shim"] if result.wrong), None)
    if wrong:
        right = right_outcome(wrong.cell.title, wrong.release)
        return summed_up(found["plain"]), f"WRONG: {shim}; right is: {right}"
    majors = ", ".join(dict.fromkeys(result.major for result in found["shim"]))
    return summed_up(found["plain"]), f"right under openai {majors}, sync and async: {shim}"


def _summary(run: Run) -> str:
    def count(client: str) -> str:
        results = [result for result in run.results if result.cell.client == client]
        right, wrong, died = (sum(getattr(each, what) for each in results) for what in ("right", "wrong", "died"))
        return f"{len(results)} cells, {right} right, {wrong} wrong" + (f", {died} without a service" * bool(died))

    return f"With the shim: {count('shim')}. The official client alone: {count('plain')}."
