"""What came of the faults as a person reads it: a line for each fault, and all there is to say of what is not right."""

from collections.abc import Sequence

from checks.faults.outcomes import Outcome
from checks.faults.runs import Played
from support.tables import in_columns

RIGHT, WRONG, NOT_THERE = "ok", "WRONG", "-"


def as_text(played: Sequence[Played]) -> str:
    """Return all of it: a table for each release and for the wire, what is wrong in detail, and a sum."""
    places = dict.fromkeys(each.where for each in played)
    tables = [_table(place, [each.outcome for each in played if each.where == place]) for place in places]
    return "\n\n".join([*tables, *(_detail(each) for each in played if not each.outcome.right), _sum(played)])


def _table(place: str, outcomes: Sequence[Outcome]) -> str:
    columns = list(dict.fromkeys((outcome.major, outcome.mode) for outcome in outcomes))
    columns.sort(key=lambda column: (column[0], column[1] != "sync"))
    heading = [
        _title(place),
        *(f"{major}.x {mode}" for major, mode in columns),
        "longest",
        "leaks",
        "what a person sees",
    ]
    rows = [heading]
    for fault in dict.fromkeys(outcome.fault for outcome in outcomes):
        found = {(each.major, each.mode): each for each in outcomes if each.fault == fault}
        cells = [_cell(found.get(column)) for column in columns]
        longest = max(outcome.seconds for outcome in found.values())
        leaks = sum(len(outcome.leaks) for outcome in found.values())
        rows.append([fault, *cells, f"{longest:.1f} s", str(leaks), _seen(list(found.values()))])
    return in_columns(rows)


def _title(place: str) -> str:
    return f"Foundry Local {place}" if place[0].isdigit() else "on the wire"


def _cell(outcome: Outcome | None) -> str:
    if outcome is None:
        return NOT_THERE
    return RIGHT if outcome.right else WRONG


def _seen(outcomes: Sequence[Outcome]) -> str:
    """Return what was seen, with the majors where they are not of one mind."""
    majors: dict[str, list[str]] = {}
    for outcome in outcomes:
        majors.setdefault(outcome.seen, []).append(outcome.major)
    if len(majors) == 1:
        return outcomes[0].seen
    return "; ".join(f"openai {', '.join(dict.fromkeys(found))}: {seen}" for seen, found in majors.items())


def _detail(played: Played) -> str:
    outcome = played.outcome
    lines = [
        f"{WRONG}: {_title(played.where)}, {outcome.fault}, openai {outcome.major}.x {outcome.mode}",
        f"  expected: {outcome.expected}, within {outcome.deadline:.0f} s",
        f"  seen:     {outcome.seen}, after {outcome.seconds:.1f} s",
    ]
    return "\n".join([*lines, *(f"  left:     {leak}" for leak in outcome.leaks)])


def _sum(played: Sequence[Played]) -> str:
    right = sum(each.outcome.right for each in played)
    leaks = sum(len(each.outcome.leaks) for each in played)
    faults = len({(each.where, each.outcome.fault) for each in played})
    return f"{faults} faults, {len(played)} cells: {right} right, {len(played) - right} wrong, {leaks} leaks."
