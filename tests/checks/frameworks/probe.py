"""Asks a running service through a framework, in the environment of that framework: ``python -m frameworks.probe``.

What a person sees goes to standard output, a line of JSON for each thing that is tried.
"""

import argparse
import contextlib
import faulthandler
import importlib
import io
import json
import os
import runpy
import sys
import traceback
from pathlib import Path

from checks.frameworks.behaviours import (
    CLIENTS,
    ERROR,
    FRAMEWORKS,
    MORE_SCRIPTS,
    STREAM,
    TOOL_CALL,
    TRIES,
    UNKNOWN_MODEL,
    WHOLE,
    Way,
)
from support.scripted_model import SCRIPTS, marker

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "frameworks"
# Longer than any try takes, with all that its framework asks again.
DEADLINE_SECONDS = 120.0


class Recorder(io.StringIO):
    """Standard output that remembers what was written at once."""

    def __init__(self):
        """Begin with nothing."""
        super().__init__()
        self.pieces = []

    def write(self, text):
        self.pieces.append(text)
        return len(text)


def stream(framework, release):
    """Run the example as a person does."""
    written = _run_example(framework, framework.prompt(STREAM, release))
    said = "".join(written).removesuffix("\n")
    if framework.prints:
        return "the object" if said == framework.prints else "another object"
    pieces = [piece for piece in written if piece.strip()]
    return f"{_text(said)}, {'in pieces' if len(pieces) > 1 else 'at once'}"


def tool_call(framework, release):
    """Have a tool called, through what the example made."""
    cities = []

    def get_weather(city: str) -> str:
        """Tell the weather in a city.

        Args:
            city: Its name.
        """
        cities.append(city)
        return marker("haiku")

    tool = importlib.import_module(f"checks.frameworks.tools.{framework.name}")
    text = tool.run(_load_example(framework), framework.prompt(TOOL_CALL, release), get_weather)
    calls = f"{len(cities) or 'no'} call{'s' * (len(cities) > 1)}" + " not as made" * (cities not in ([], ["Paris"]))
    return calls if text is None else f"{calls}, {_text(text)}"


def error(framework, release):
    """Run the example with a model that the service does not have."""
    loaded = os.environ["FOUNDRY_LOCAL_MODEL"]
    os.environ["FOUNDRY_LOCAL_MODEL"] = UNKNOWN_MODEL
    try:
        return f"no error, {stream(framework, release)}"
    except Exception as failure:  # noqa: BLE001 - it is what a person sees
        message = _message(failure)
        if UNKNOWN_MODEL not in message:
            return f"{type(failure).__name__}, which does not say why"
        return "names the model" + " and what is loaded" * (loaded.partition(":")[0] in message)


def _text(text):
    if text == SCRIPTS["haiku"]:
        return WHOLE
    if not text:
        return "no text"
    if text in (SCRIPTS["tool"], MORE_SCRIPTS["plugin"]):
        return "the call as text"
    return "part of the text" if text in SCRIPTS["haiku"] else "other text"


def _message(failure):
    """What an error says, with what it was raised from."""
    said = []
    while failure:
        said.append(str(failure))
        failure = failure.__cause__ or failure.__context__
    return "\n".join(said)


def _run_example(framework, *arguments):
    recorder = Recorder()
    path = EXAMPLES / f"with_{framework.name}.py"
    before = sys.argv
    sys.argv = [str(path), *arguments]
    try:
        with contextlib.redirect_stdout(recorder):
            runpy.run_path(str(path), run_name="__main__")
    finally:
        sys.argv = before
    return recorder.pieces


def _load_example(framework):
    """Return what the example made, without what it asks."""
    return runpy.run_path(str(EXAMPLES / f"with_{framework.name}.py"), run_name="example")


def without_repair():
    """Have the shim's clients be the official ones with nothing underneath."""
    import shim.client  # noqa: PLC0415 - a program that only has an address does not have it, and shall not here

    shim.client.repair = lambda client, _policy=None: client


def outcome(what, framework, release):
    """Try one thing; say in a few words what a person sees."""
    try:
        return {STREAM: stream, TOOL_CALL: tool_call, ERROR: error}[what](framework, release)
    except Exception as failure:  # noqa: BLE001 - it is what a person sees
        traceback.print_exc()
        return type(failure).__name__


def own_standard_output():
    """Return standard output for this program alone; what the frameworks print goes to standard error."""
    mine = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return mine


def main():
    """Try one thing after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("framework", choices=FRAMEWORKS)
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("release")
    options = parser.parse_args()
    if options.client == "alone" and FRAMEWORKS[options.framework].way is Way.CLIENT:
        without_repair()
    output = own_standard_output()
    for what in TRIES:
        faulthandler.dump_traceback_later(DEADLINE_SECONDS, exit=True)  # however it hangs, it does not for ever
        said = outcome(what, FRAMEWORKS[options.framework], options.release)
        print(json.dumps({"what": what, "outcome": said}), file=output, flush=True)


if __name__ == "__main__":
    main()
