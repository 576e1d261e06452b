"""Attack a proxy: ``python tests/checks/attacks [--url http://127.0.0.1:5270 --key KEY] [--only TEXT]``.

Without an address a proxy of this checkout is started, in front of a service that misbehaves on request. A proxy that
runs already is attacked with what needs no other service behind it; it may be slow meanwhile.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

if __name__ == "__main__":
    # Started by its folder, from wherever; the rest of the tests and this very checkout are what it is about.
    sys.path[:1] = [str(Path(__file__).resolve().parents[number]) for number in (2, 3)]

from checks.attacks import access, load, local, misbehaving, smuggling
from checks.attacks.attacks import ATTACKS, Entry
from checks.attacks.target import Target, own_target, target_at

MODULES = (access, smuggling, load, misbehaving, local)
HELD, SUCCEEDED = "held", "SUCCEEDED"


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the attacks, and print a table.

    Returns:
        1 if one succeeded.
    """
    options = _options(arguments)
    chosen = [entry for entry in ATTACKS if options.only in str(entry) and not (options.url and entry.needs_own)]
    rows = [("group", "attack", "outcome", "seconds", "memory, MB", "files", "what succeeded")]
    with nullcontext(target_at(options.url, options.key)) if options.url else own_target() as target:
        target.memory()
        for entry in chosen:
            rows.append(play(entry, target))
            print(f"{rows[-1][2]:>9}  {rows[-1][3]:>6} s  {entry.group}: {entry.name}", file=sys.stderr, flush=True)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print("\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows))
    succeeded = sum(row[2] == SUCCEEDED for row in rows)
    print(f"\n{len(chosen)} attacks, {succeeded} succeeded.")
    return int(succeeded > 0)


def play(entry: Entry, target: Target) -> tuple[str, ...]:
    """Play one attack; return its row of the table."""
    started = time.monotonic()
    try:
        success = entry.play(target)
    except Exception as error:  # noqa: BLE001 - a proxy that does not answer as it should has lost
        success = f"{type(error).__name__}: {error}"
    seconds = f"{time.monotonic() - started:.1f}"
    memory, files = target.memory(), target.descriptors()
    return (
        entry.group,
        entry.name,
        SUCCEEDED if success else HELD,
        seconds,
        "-" if memory is None else f"{memory / 2**20:.0f}",
        "-" if files is None else str(files),
        success[:300],
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/checks/attacks", description=__doc__.partition("\n")[0])
    parser.add_argument("--url", help="a proxy that runs, such as http://127.0.0.1:5270")
    parser.add_argument("--key", help="its key, if it has one")
    parser.add_argument("--only", default="", metavar="TEXT", help="only attacks with this text in group_and_name")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # a console may lack a character of what was found
    sys.exit(main())
