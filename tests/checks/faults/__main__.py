"""Play all faults: ``python tests/checks/faults [--only service|wire] [--majors MAJOR,...] [--json PATH]``."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

if __name__ == "__main__":
    # Started by its folder, from wherever; the rest of the tests and this very checkout are what it is about.
    sys.path[:1] = [str(Path(__file__).resolve().parents[number]) for number in (2, 3)]

from checks.faults.runs import Played, Probe, play_release, play_wire, probes
from checks.faults.table import as_text
from support.clients import CLIENTS
from support.releases import DEFAULT_VERSIONS, RELEASES
from support.service_pool import ServicePool

SERVICE, WIRE = "service", "wire"


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, print, and write if asked to.

    Returns:
        0 if a person sees what he should, everywhere.

    Raises:
        Unprovisioned: A client or a release could not be installed.
    """
    options = _options(arguments)
    pythons = {name.removeprefix("openai-"): environment for name, environment in CLIENTS.items()}
    with probes({major: pythons[major].ensure() for major in options.majors}) as programs:
        played = list(_played(options, programs))
    print(as_text(played))
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in played], indent=1), encoding="utf-8")
    return int(not all(each.outcome.right for each in played))


def _played(options: argparse.Namespace, programs: Sequence[Probe]) -> Iterator[Played]:
    if options.only != WIRE:
        with ServicePool(nullcontext) as pool:
            for version in options.releases:
                yield from play_release(version, pool.launch, programs)
    if options.only != SERVICE:
        yield from play_wire(programs)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    majors = [name.removeprefix("openai-") for name in CLIENTS]
    parser = argparse.ArgumentParser(prog="python tests/checks/faults", description=__doc__)
    parser.add_argument("--only", choices=[SERVICE, WIRE], help="the faults of the service, or those of the wire")
    parser.add_argument("--majors", type=_list, default=majors, metavar="MAJOR,...", help="of the openai client")
    parser.add_argument(
        "--releases", type=_list, default=DEFAULT_VERSIONS, metavar="VERSION,...", help="of the service"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all outcomes there")
    options = parser.parse_args(arguments)
    for chosen, known in ((options.majors, majors), (options.releases, list(RELEASES))):
        if unknown := [each for each in chosen if each not in known]:
            parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    return options


def _list(text: str) -> list[str]:
    return text.replace(" ", "").split(",")


if __name__ == "__main__":
    sys.exit(main())
