"""Measure what the shim costs: ``python tests/checks/benchmarks [--only NAME,…] [--quick] [--json PATH] [--write]``.

``--only peers --plot docs/performance.svg`` draws the picture of docs/performance.md.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

if __name__ == "__main__":
    # Started by its folder, from wherever; the rest of the tests and this very checkout are what it is about.
    sys.path[:1] = [str(Path(__file__).resolve().parents[number]) for number in (2, 3)]

from checks.benchmarks import client, core, delay, haiku, imports, linear, memory, peers, proxy, ways
from checks.benchmarks.harness import LEAST_ROUNDS, SEED, Measure, Measured, NotMeasuredError, Row, Settings
from checks.benchmarks.machine import machine
from checks.benchmarks.plot import picture
from checks.benchmarks.table import as_text, with_table
from support.environments import REPOSITORY
from support.tables import NoPlaceError

MEASURES: dict[str, Measure] = {
    "service": client.measure_live,
    "client": client.measure_replayed,
    "ways": ways.measure,
    "peers": peers.measure,
    "core": core.measure,
    "delay": delay.measure,
    "linear": linear.measure,
    "memory": memory.measure,
    "import": imports.measure,
    "haiku": haiku.measure,
    "proxy": proxy.measure,
}


def main(
    arguments: Sequence[str] | None = None,
    measures: Mapping[str, Measure] = MEASURES,
    document: Path = REPOSITORY / "docs" / "performance.md",
) -> int:
    """Measure, print, and write what is asked for.

    Returns:
        0, whatever the figures are; with ``--gate`` 1 if a target is not met. 1 if the document has no place.
    """
    options = _options(arguments, measures)
    settings = Settings(rounds=options.rounds or (1 if options.quick else 9), quick=options.quick, seed=options.seed)
    names = options.only or list(measures)
    found = {name: _measured(name, measures[name], settings) for name in names}
    rows = [row for measured in found.values() for row in measured.rows]
    where = machine(settings)
    if options.json:
        options.json.write_text(as_json(where, found), encoding="utf-8")
    if options.plot:
        panels = {title: samples for measured in found.values() for title, samples in peers.panels(measured).items()}
        options.plot.write_text(picture(panels), encoding="utf-8")
    try:
        if options.write:
            document.write_text(with_table(document.read_text(encoding="utf-8"), rows, where), encoding="utf-8")
    except NoPlaceError as error:
        print(f"{document.name}: {error}", file=sys.stderr)
        return 1
    return int(options.gate and any(row.met is False for row in rows))


def _measured(name: str, measure: Measure, settings: Settings) -> Measured:
    started = time.monotonic()
    try:
        measured = measure(settings)
    except NotMeasuredError as error:
        measured = Measured([Row(name, f"not measured: {error}")])
    print(f"{as_text(measured.rows)}\n({name}: {time.monotonic() - started:.0f} s)\n", flush=True)
    return measured


def as_json(where: Mapping[str, object], found: Mapping[str, Measured]) -> str:
    """Return all of it as data, with every raw figure."""
    content = {"machine": where, "measures": {name: asdict(measured) for name, measured in found.items()}}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _options(arguments: Sequence[str] | None, measures: Mapping[str, Measure]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/checks/benchmarks", description=__doc__)
    parser.add_argument("--only", metavar="NAME,...", help=f"some of: {', '.join(measures)}")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"of each subject, {LEAST_ROUNDS} or more (default: 9)")
    parser.add_argument("--quick", action="store_true", help="small streams and one round: to see that it works")
    parser.add_argument("--seed", type=int, default=SEED, help="of the order of the subjects")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every raw figure there")
    parser.add_argument("--plot", type=Path, metavar="PATH", help="draw the figures of the peers there, as SVG")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    parser.add_argument("--gate", action="store_true", help="exit code 1 if a target is not met")
    options = parser.parse_args(arguments)
    options.only = [name.strip() for name in options.only.split(",")] if options.only else []
    if unknown := [name for name in options.only if name not in measures]:
        parser.error(f"no such measure: {', '.join(unknown)}; there are {', '.join(measures)}")
    if not options.quick and options.rounds is not None and options.rounds < LEAST_ROUNDS:
        parser.error(f"at least {LEAST_ROUNDS} rounds, or --quick")
    return options


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # a console may lack the signs
    sys.exit(main())
