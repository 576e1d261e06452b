"""All streams of this repository: recorded, quoted and composed, each as it was sent and as the shim repairs it."""

import gzip
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from shim.core.request import ChatRequest
from shim.repairs import Policy
from support.deviations import DEVIATIONS, TOOLS, Answer, Call, Choice, deviated, policy_for, written
from support.dialects import DIALECTS
from support.streams import DONE, MODEL, WIRE, betalgo, conforming, recorded_body, repair, stream

RECORDED = Path(__file__).parents[1] / "checks" / "benchmarks" / "recorded"
ANSWERS = (
    Answer((Choice(("Hello", " wörld 🌸", "\u2028 end")),)),
    Answer((Choice(("<think>why</think>", "because"), reasoning="why"), Choice(("B",), reason="length")), order=5),
    Answer((Choice(("Let me see",), (Call("get_weather", {"city": "Paris"}),), "tool_calls"),), tools=True),
    Answer((Choice(("Hello",)),), usage_asked=True),
)
_PLACES = (0, 1, 6)
_SOME = 60


@cache
def every_stream() -> dict[str, bytes]:
    """The bodies of all streams by name, each body once."""
    bodies = {body: name for name, body in _streams()}
    return {name: body for body, name in bodies.items()}


def _streams() -> Iterator[tuple[str, bytes]]:
    for name, body in _received():
        yield name, body
        yield f"{name}, repaired", repair(body, ChatRequest(model=MODEL, tools=TOOLS)).output
    for number, answer in enumerate(ANSWERS):
        yield f"answer {number}", written(answer)
        for name in DEVIATIONS:
            for places in _PLACES:
                body = deviated(answer, {name: places})
                yield f"answer {number}, {name} {places}", body
                policy = policy_for({name: places})
                yield f"answer {number}, {name} {places}, repaired", repair(body, answer.request, policy).output


def _received() -> Iterator[tuple[str, bytes]]:
    for path in sorted(WIRE.rglob("*.http")):
        yield str(path.relative_to(WIRE)), recorded_body(path)
    for path in sorted(WIRE.rglob("*.sse")):
        yield str(path.relative_to(WIRE)), path.read_bytes()
    for path in sorted(RECORDED.glob("*.sse.gz")):
        first, *rest = gzip.decompress(path.read_bytes()).split(b"\n\n")
        yield path.name, b"\n\n".join([first, *rest[:_SOME], *rest[-4:]])
    for release, dialect in DIALECTS.items():
        for case, answer in dialect.answers.items():
            yield f"{release}, {case}", b"".join(answer.pieces)
    yield "as OpenAI sends it", stream(conforming())
    yield "as 1.x sends it", stream(betalgo())
    yield "only the end", DONE
    yield (
        "with reasoning split",
        repair(stream(betalgo(("<think>", "why", "</think>", "because"))), policy=Policy(reasoning="split")).output,
    )
