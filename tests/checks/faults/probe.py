"""Plays faults in whatever environment it is started in: ``python -m faults.probe --mode sync``.

The faults come on standard input, a line of JSON each. What came of one goes to standard output, the same way; before
that the program may say that it has come so far, and it is told when the fault was done.
"""

import argparse
import faulthandler
import json
import os
import sys
from dataclasses import asdict
from typing import Any

from checks.faults.outcomes import Outcome
from checks.faults.service_faults import SERVICE_FAULTS, Session
from checks.faults.service_faults import play as play_on_service
from checks.faults.wire_faults import play as play_on_the_wire
from support.talk import MAJOR

# However a program hangs, it does not for ever.
SILENCE_SECONDS = 300.0


def main() -> None:
    """Play one fault after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", choices=["sync", "async"], required=True)
    mode = parser.parse_args().mode
    # What a library prints is not for whoever reads the outcomes.
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(**message: Any) -> None:
        print(json.dumps(message), file=channel, flush=True)

    def wait() -> float:
        say(reached=True)
        return json.loads(input())["done"]

    while line := sys.stdin.readline():
        faulthandler.dump_traceback_later(SILENCE_SECONDS, exit=True)
        say(outcome=asdict(_play(mode, wait, **json.loads(line))))


def _play(mode: str, wait: Any, *, fault: str, base_url: str = "", model: str = "") -> Outcome:
    major = str(MAJOR)
    if not base_url:
        return play_on_the_wire(fault, mode, major)
    return play_on_service(SERVICE_FAULTS[fault], Session(base_url, model, major, mode, wait))


if __name__ == "__main__":
    main()
