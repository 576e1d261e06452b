"""Soak the shim: ``python tests/checks/soak [--seconds 600] [--releases VERSION,...] [--json PATH]``.

Ctrl-C ends it early, with the table of what was done.
"""

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

if __name__ == "__main__":
    # Started by its folder, from wherever; the rest of the tests and this very checkout are what it is about.
    sys.path[:1] = [str(Path(__file__).resolve().parents[number]) for number in (2, 3)]

from checks.soak.kinds import KINDS
from checks.soak.run import Soaked, soak
from support.environments import Unprovisioned
from support.releases import DEFAULT_VERSIONS, RELEASES
from support.service import ServiceFailedError, running_services
from support.service_pool import ServicePool
from support.tables import in_columns


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, and write if asked to.

    Returns:
        0 if nothing was wrong.
    """
    options = _options(arguments)
    versions = options.releases.replace(" ", "").split(",")
    stop = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    with ServicePool(nullcontext) as pool:
        try:
            for version in versions:
                if version not in running_services():
                    RELEASES[version].ensure()
            services = [pool.get(version) for version in versions]
        except (Unprovisioned, ServiceFailedError) as error:
            print(error)
            return 1
        soaked = soak(services, options.seconds, stop)
    print(as_text(soaked, versions))
    if options.json:
        options.json.write_text(json.dumps(as_members(soaked), indent=1) + "\n", encoding="utf-8")
    return int(any(soaked.faults()))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/checks/soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600, help="how long (default: %(default)s)")
    parser.add_argument(
        "--releases",
        metavar="VERSION,...",
        default=os.environ.get("FOUNDRY_SHIM_RELEASES") or ",".join(DEFAULT_VERSIONS),
        help="which releases of Foundry Local, all at the same time (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write what was measured to a file, too")
    options = parser.parse_args(arguments)
    if unknown := [version for version in options.releases.replace(" ", "").split(",") if version not in RELEASES]:
        parser.error(f"no such release: {', '.join(unknown)}; there are {', '.join(RELEASES)}")
    return options


def as_text(soaked: Soaked, versions: Sequence[str]) -> str:
    """Return the table, what is wrong below it."""
    rows = [("streams", *versions)]
    rows += [(kind.name, *(str(soaked.done[version, kind.name]) for version in versions)) for kind in KINDS]
    totals = (sum(count for (release, _), count in soaked.done.items() if release == version) for version in versions)
    rows.append(("all", *map(str, totals)))
    first, last = soaked.samples[0], soaked.samples[-1]
    grown, blocks = soaked.rss_growth, soaked.blocks_a_stream
    figures = [
        ("seconds", f"{soaked.seconds:.0f}"),
        ("wrong texts", str(soaked.wrongs)),
        ("unexpected errors", str(soaked.failures)),
        ("memory, MiB", f"{first.rss / 2**20:.1f} to {last.rss / 2**20:.1f}"),
        ("grown since the second quarter, MiB", "unknown" if grown is None else f"{grown / 2**20:.1f}"),
        ("pieces of memory left by a stream", "too few to tell" if blocks is None else f"{blocks:.2f}"),
        ("connections between rounds, at most", f"{soaked.most_connections} of {soaked.connections}"),
        ("left at the end", ", ".join(soaked.leaks) or "nothing"),
    ]
    told = [f"wrong: {each}" for each in soaked.wrong] + [f"error: {each}" for each in soaked.errors]
    verdict = [f"FAILED: {fault}" for fault in soaked.faults()] or ["Nothing is wrong."]
    parts = (in_columns(rows, right_aligned=True), "", in_columns(figures, right_aligned=True), "")
    return "\n".join((*parts, *told, *verdict))


def as_members(soaked: Soaked) -> dict:
    """Return what was measured, for a program to read."""
    return {
        "seconds": soaked.seconds,
        "done": {f"{release} {kind}": count for (release, kind), count in sorted(soaked.done.items())},
        "wrong texts": soaked.wrongs,
        "unexpected errors": soaked.failures,
        "blocks a stream": soaked.blocks_a_stream,
        "rss growth": soaked.rss_growth,
        "connections": soaked.most_connections,
        "samples": [
            {"streams": each.streams, "rss": each.rss, "blocks": each.blocks, "sockets": each.held.sockets}
            for each in soaked.samples
        ],
        "left": soaked.leaks,
        "faults": list(soaked.faults()),
    }


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # a console may lack a character of what was wrong
    sys.exit(main())
