"""Whole HTTP answers of the releases that cannot be run here: 0.2 to 0.8 of the Foundry Local CLI, and its 0.10 daemon.

Only single chunks of these releases are quoted in public (tests/wire). An answer is composed from the chunk that is
quoted, so that its members and their order are the quoted ones, and differs from it only in what is known of the
release; tests/wire/dialects/index.json lists what is known, and where it is said. Each property of a dialect and each
part of an answer says by its origin whether it is quoted or composed, and after what::

    dialect = DIALECTS["0.7.117"]
    with RawServer(serve(dialect, "ordinary")) as server:
        ...  # a client asks server.base_url
"""

import copy
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from support.raw_server import Script, Step, plain_response, sse_response
from support.streams import DONE

WIRE = Path(__file__).parents[1] / "wire"
FOLDER = WIRE / "dialects"
INDEX: dict[str, Any] = json.loads((FOLDER / "index.json").read_text(encoding="utf-8"))
QUOTES = {
    sample["file"]: {**sample, "path": path}
    for path, index in ((WIRE, json.loads((WIRE / "index.json").read_text(encoding="utf-8"))), (FOLDER, INDEX))
    for sample in index["samples"]
}

PIECES = ("naïve ", "café 🌸", " 日本語", "\u2028", " \"x\" <b> & 'y'", "\\n\r\n", "end")
TEXT = "".join(PIECES)
CUT_PIECES = PIECES[:3]
UNKNOWN_MODEL = "phi-unknown"
LISTED_MODEL = "phi-4"

_FUNCTOOLS = "0.5.x-phi4mini-functools-content.txt"
_MODELS = "1.x-v1-models-list.json"
_FIXTURE = "0.8-to-0.10-client-fixture-no-finish-reason.sse"
_FAILURE = "0.10.x-daemon-midstream-error.sse"
_LIVE = "live/1.0.0"
_GO_SAMPLE = "https://github.com/joergjo/go-foundry-local/commit/582bcce"
_WEATHER = {"name": "get_weather", "arguments": {"city": "Zürich"}}
_MULTIPLY = {"name": "multiply_numbers", "arguments": {"first": 7, "second": 6}}


def quoted(file: str) -> str:
    """The origin of what stands in a quoted sample."""
    return f"quoted: {file}, {QUOTES[file]['source']}"


def modelled(file: str) -> str:
    """The origin of what is written after a quoted sample."""
    return f"composed after {file}, {QUOTES[file]['source']}"


def composed(number: str, source: str | None = None) -> str:
    """The origin of what is written after a description."""
    return f"composed after {number}, {source or INDEX['descriptions'][number]['source']}"


def recorded(case: str) -> str:
    """The origin of what is not known of the release, and is as recorded of the oldest one that runs here."""
    return f"composed after {_LIVE}/{case}.http, recorded from the service of that release"


PROPERTIES = {
    "content_type": "the label of a stream",
    "object": "the member of that name in a chunk",
    "id": "`counts` up with each chunk, or `constant`",
    "index": "of the choice: `counts` up with each chunk, or `zero`",
    "model": "`null` or `named`",
    "created_at": "CreatedAt is `written`",
    "message": "`beside` the delta",
    "role": "in `each` delta",
    "tool_calls": "`empty` in each delta",
    "usage": "`null` or `absent`",
    "error": "`null` or `absent`",
    "null_members": "`written` or `omitted`",
    "finish_reason": "in the `last` chunk, or `never`",
    "done": "the end marker is `sent`",
    "escapes": "how a string is written",
}


class Fact(NamedTuple):
    """What is known of one property of a dialect, and from where."""

    value: Any
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """One answer as the service sends it, and what it means.

    Attributes:
        origin: Where the status, the label, the other headers, the members of the body and what they say come from.
        pieces: The body, in the pieces that the service writes.
        status: The HTTP status.
        headers: The headers, but for those of the body's length.
        streamed: Whether the body is sent in chunks.
        text: The text that the model meant for the reader.
        reason: Why the model stopped, as far as the answer tells; "stop" where it says only that it is done.
        calls: The tool calls that the model made, each with its name and arguments.
    """

    origin: Mapping[str, str]
    pieces: tuple[bytes, ...]
    headers: tuple[tuple[str, str], ...]
    status: int = 200
    streamed: bool = True
    text: str = ""
    reason: str | None = "stop"
    calls: tuple[Mapping[str, Any], ...] = ()

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.pieces)

    def steps(self) -> list[Step]:
        """What a raw server does to send it."""
        if self.streamed:
            return sse_response(self.pieces, status=self.status, headers=self.headers)
        return plain_response(self.body, self.status, self.headers)


@dataclass(frozen=True)
class Dialect:
    """How one release writes its answers.

    Attributes:
        release: Its number.
        sample: The quoted file whose chunk every chunk is made from.
        facts: What is known of the release, by the names in `PROPERTIES`.
    """

    release: str
    sample: str
    facts: Mapping[str, Fact]

    def __getitem__(self, name: str) -> Any:
        """The value of a property."""
        return self.facts[name].value

    @property
    def origin(self) -> dict[str, str]:
        """Where each property is known from."""
        return {name: fact.origin for name, fact in self.facts.items()}

    @cached_property
    def _base(self) -> dict[str, Any]:
        """The quoted chunk, with what its author cut off it, and with what the release has otherwise."""
        chunk = quoted_chunks(self.sample)[0]
        choice = chunk["choices"][0]
        choice["delta"].setdefault("tool_calls", [])
        if "message" not in choice:
            chunk["choices"][0] = {"delta": choice.pop("delta"), "message": {}, **choice}
        if "CreatedAt" not in chunk:
            chunk = _inserted(chunk, after="created", CreatedAt="2026-09-07T00:46:09+00:00")
        return {**chunk, "object": self["object"]}

    @property
    def members_origin(self) -> str:
        """Where the members of its chunks and their order are from."""
        return modelled(self.sample)

    @property
    def sample_position(self) -> int:
        """Which chunk of its stream the quoted one is."""
        return self._base["choices"][0]["index"]

    def chunk(self, content: str, position: int = 0, reason: str | None = None) -> dict[str, Any]:
        """One chunk of a stream with that content, in that place, as the release would write it."""
        chunk = copy.deepcopy(self._base)
        choice = chunk["choices"][0]
        for part in ("delta", "message"):
            choice[part] = {**choice["delta"], "content": content}
        if self["id"] == "counts":
            sampled = int(chunk["id"].rpartition(".")[2])
            chunk["id"] = f"chat.id.{sampled - self.sample_position + position}"
        choice["index"] = position if self["index"] == "counts" else 0
        if reason:
            choice["finish_reason"] = reason
        return chunk

    def call_chunk(self, call: Mapping[str, Any], position: int, *, content: str = "") -> dict[str, Any]:
        """The chunk with a parsed tool call: `message` without `delta`, and no `index` in the call."""
        chunk = self.chunk(content, position)
        message = {"role": "assistant", "content": content, "tool_calls": [structured(call)]}
        chunk["choices"] = [{"message": message, "index": 0, "finish_reason": "tool_calls"}]
        return chunk

    def stream(self, pieces: Iterable[str], reason: str, *, last: str | None = None) -> tuple[bytes, ...]:
        """The events of a stream up to the end marker; `last` is the content of the chunk with the reason."""
        contents = [*pieces, *([] if last is None else [last])] if self["finish_reason"] == "last" else [*pieces]
        told = reason if self["finish_reason"] == "last" else None
        chunks = [
            self.chunk(content, position, told if position == len(contents) - 1 else None)
            for position, content in enumerate(contents)
        ]
        return tuple(event(chunk) for chunk in chunks)

    def plain(
        self, content: str, reason: str = "stop", *, calls: Iterable[Mapping[str, Any]] = ()
    ) -> tuple[bytes, ...]:
        """The body of a completion that was not streamed."""
        body = self.chunk(content, 0, reason if self["finish_reason"] == "last" else None)
        body["object"] = "chat.completion"
        for part in ("delta", "message") if calls else ():
            body["choices"][0][part]["tool_calls"] = [structured(call) for call in calls]
        return (dump(body),)

    @cached_property
    def answers(self) -> dict[str, HttpAnswer]:
        """The answers of the release, by case."""
        return {**_streams(self), **_bodies(self), **_only_some(self)}

    def answer(
        self,
        pieces: Iterable[bytes],
        case: str,
        *,
        members: str | None = None,
        status: Fact | None = None,
        content_type: Fact | None = None,
        **meaning: Any,
    ) -> HttpAnswer:
        """An answer with the headers of the release; `case` and `members` are the origins of what the body says."""
        code = status or Fact(200, recorded("haiku"))
        label = content_type or self.facts["content_type"]
        return HttpAnswer(
            origin={
                "status": code.origin,
                "content_type": label.origin,
                "headers": recorded("haiku"),
                "members": members or self.members_origin,
                "case": case,
            },
            pieces=tuple(pieces),
            headers=(
                *((("Content-Type", label.value),) if label.value else ()),
                ("Date", formatdate(self._base["created"], usegmt=True)),
                ("Server", "Kestrel"),
            ),
            status=code.value,
            **meaning,
        )


def _streams(dialect: Dialect) -> dict[str, HttpAnswer]:
    """What every release sends when it is asked for a stream."""
    told = dialect["finish_reason"] == "last"
    functools = quoted_text(_FUNCTOOLS)
    return {
        "ordinary": dialect.answer(
            (*dialect.stream(PIECES, "stop", last=""), DONE), dialect.facts["finish_reason"].origin, text=TEXT
        ),
        # The reason stands in the last chunk with text there; a release that gives none cannot tell.
        "length": dialect.answer(
            (*dialect.stream(CUT_PIECES, "length"), DONE),
            recorded("length") if told else dialect.facts["finish_reason"].origin,
            text="".join(CUT_PIECES),
            reason="length" if told else "stop",
        ),
        "tool-call": dialect.answer(
            (*dialect.stream(tokens(markup(_WEATHER)), "stop", last=""), DONE), composed("Q21"), **_called(_WEATHER)
        ),
        "functools": dialect.answer(
            (*dialect.stream(tokens(functools), "stop", last=""), DONE),
            quoted(_FUNCTOOLS),
            **_called(*json.loads(functools.removeprefix("functools"))),
        ),
    }


def _bodies(dialect: Dialect) -> dict[str, HttpAnswer]:
    """What every release sends when no stream is asked for."""
    return {
        "plain": dialect.answer(dialect.plain(TEXT), composed("Q25"), text=TEXT, **_PLAIN),
        "plain-tool-call": dialect.answer(
            dialect.plain(markup(_WEATHER)), composed("Q21"), **_called(_WEATHER), **_PLAIN
        ),
        "models": _models(dialect),
    }


def _models(dialect: Dialect) -> HttpAnswer:
    listed = (FOLDER / _MODELS).read_bytes()
    if dialect.release == DAEMON:
        return dialect.answer((listed,), composed("Q31"), members=quoted(_MODELS), **_PLAIN)
    models = json.loads(listed)
    models["data"][0] |= {"maxInputTokens": 3072, "maxOutputTokens": 1024}
    return dialect.answer((dump(models),), composed("Q31"), members=modelled(_MODELS), **_PLAIN)


def _only_some(dialect: Dialect) -> dict[str, HttpAnswer]:
    """What only some releases send."""
    if dialect.release == DAEMON:
        return _daemon(dialect)
    refusal = f"No OpenAIService provider found for modelName:{UNKNOWN_MODEL}".encode()
    known = composed("Q26")
    answers = {
        # The content type of this answer is not quoted anywhere, so it must not matter.
        case: dialect.answer(
            (refusal,),
            known,
            members=known,
            status=Fact(400, known),
            content_type=Fact(label, known),
            streamed=False,
        )
        for case, label in (
            ("unknown-model", "text/plain; charset=utf-8"),
            ("unknown-model-as-json", "application/json"),
            ("unknown-model-unlabelled", None),
        )
    }
    if dialect.release == "0.8.117":
        fixture = (WIRE / _FIXTURE).read_bytes()
        origin = quoted(_FIXTURE)
        answers["fixture"] = dialect.answer((fixture,), origin, members=origin, text="OK")
    return answers


def _daemon(dialect: Dialect) -> dict[str, HttpAnswer]:
    called = _called(_MULTIPLY)
    pieces = tokens(markup(_MULTIPLY))
    doubled = (
        *(event(dialect.chunk(piece, position)) for position, piece in enumerate(pieces)),
        event(dialect.call_chunk(_MULTIPLY, len(pieces))),
        DONE,
    )
    at_once = event(dialect.call_chunk(_MULTIPLY, 0, content=markup(_MULTIPLY)))
    # The list, and `parameters` for `arguments`, are those of the fixture.
    listed = [{"name": _MULTIPLY["name"], "parameters": _MULTIPLY["arguments"]}]
    body = dialect.plain(f"<tool_call>{json.dumps(listed)}</tool_call>", "tool_calls", calls=(_MULTIPLY,))
    silent = tuple(event(dialect.chunk(piece, position)) for position, piece in enumerate(PIECES))
    failure = (WIRE / _FAILURE).read_bytes() + b"\n"
    refusal = dump({"error": {"message": f"Model {UNKNOWN_MODEL} not found"}})
    # That the text stands in an object and the status is 4xx or 5xx is known; which status and which text is not.
    known = composed("Q26")
    return {
        "structured": dialect.answer(
            (event(dialect.call_chunk(_MULTIPLY, 0)), DONE), composed("Q10"), text="", **called
        ),
        "doubled": dialect.answer(doubled, composed("Q22"), **called),
        "doubled-at-once": dialect.answer((at_once, DONE), composed("Q22"), **called),
        "plain-doubled": dialect.answer(body, composed("Q22"), **called, **_PLAIN),
        "without-reason": dialect.answer((*silent, DONE), composed("Q11"), text=TEXT),
        "without-done": dialect.answer(dialect.stream(PIECES, "stop", last=""), composed("Q18"), text=TEXT),
        "without-either": dialect.answer(silent, composed("Q18"), text=TEXT, reason=None),
        "error": dialect.answer((*silent, failure), quoted(_FAILURE), text=TEXT, reason=None),
        "error-first": dialect.answer((failure,), composed("Q19"), members=quoted(_FAILURE), reason=None),
        "unknown-model": dialect.answer(
            (refusal,),
            known,
            members=known,
            status=Fact(404, known),
            content_type=Fact("application/json", known),
            streamed=False,
        ),
    }


def _called(*calls: Mapping[str, Any]) -> dict[str, Any]:
    """What an answer with those calls means."""
    return {"calls": calls, "reason": "tool_calls"}


def serve(dialect: Dialect, case: str) -> Script:
    """The script of a raw server that answers each chat request with the case, and lists the release's models."""

    def play(_connection: Any, request: Any) -> list[Step]:
        if request.path.endswith("/chat/completions"):
            return dialect.answers[case].steps()
        if request.path.endswith("/models"):
            return dialect.answers["models"].steps()
        return plain_response(b"", 404, [("Server", "Kestrel")])

    return play


# Writing and reading as the service does


def markup(call: Mapping[str, Any]) -> str:
    """A tool call as Qwen writes it."""
    return f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>"


def structured(call: Mapping[str, Any]) -> dict[str, Any]:
    """A tool call with its arguments as a string, without `index`."""
    function = {"name": call["name"], "arguments": json.dumps(call["arguments"])}
    return {"id": "call_1", "type": "function", "function": function}


def event(payload: Any) -> bytes:
    """One event of a stream."""
    return b"data: " + dump(payload) + b"\n\n"


_ESCAPED = re.compile(r"""\\.|[^\x00-\x7e]|[&'<>`]""", re.DOTALL)


def dump(payload: Any) -> bytes:
    r"""JSON as the service's System.Text.Json writes it: compact, \uXXXX for quotes, <, >, & and all but ASCII."""
    compact = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    return _ESCAPED.sub(lambda match: _escape(match.group()), compact).encode()


def _escape(found: str) -> str:
    if found.startswith("\\") and found != '\\"':
        return found
    units = found[-1].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04X}" for at in range(0, len(units), 2))


def tokens(text: str) -> list[str]:
    """Cut a text about as a tokenizer does: the tags and the JSON come in many pieces."""
    return re.findall(r" ?[A-Za-z]+|.", text, re.DOTALL)


def quoted_text(file: str) -> str:
    """A quoted file."""
    return (QUOTES[file]["path"] / file).read_text(encoding="utf-8")


@cache
def _quoted_documents(file: str) -> tuple[str, ...]:
    text = quoted_text(file)
    if "data: " not in text:
        return (re.sub(r" // .*", "", text),)
    return tuple(line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {"))


def quoted_chunks(file: str) -> list[dict[str, Any]]:
    """The chunks in a quoted file, their members in the quoted order; the reporter's comments are left out."""
    return [json.loads(document) for document in _quoted_documents(file)]


def _inserted(members: dict[str, Any], *, after: str, **more: Any) -> dict[str, Any]:
    """The members with more of them behind the named one."""
    out: dict[str, Any] = {}
    for name, value in members.items():
        out[name] = value
        if name == after:
            out |= more
    return out


# The releases

DAEMON = "0.10"
_PLAIN: Mapping[str, Any] = {
    "content_type": Fact("application/json", modelled("1.0.0-nonstream.http")),
    "streamed": False,
}
_OLD = {
    "created_at": "written",
    "message": "beside",
    "role": "each",
    "tool_calls": "empty",
    "usage": "null",
    "error": "null",
    "null_members": "written",
}
_NEW = {**_OLD, "usage": "absent", "error": "absent", "null_members": "omitted"}
_COUNTING_ID = Fact("counts", composed("Q03"))
_CONSTANT_ID = Fact("constant", composed("Q04"))
_COUNTING_INDEX = Fact("counts", composed("Q05"))
_WITH_REASON = Fact("last", composed("Q11", _GO_SAMPLE))
_WITHOUT_REASON = Fact("never", composed("Q11"))


def _dialect(release: str, sample: str, shown: Mapping[str, str], *, own_sample: bool = True, **known: Fact) -> Dialect:
    """A release of which a sample shows some properties, its own or that of a neighbour, and others are known."""
    origin = quoted(sample) if own_sample else modelled(sample)
    common = {
        "object": Fact("chat.completion.chunk", origin),
        "content_type": Fact("text/event-stream", recorded("haiku")),
        "done": Fact("sent", composed("Q18")),
        "escapes": Fact("as in 1.0.0", recorded("emoji")),
    }
    return Dialect(release, sample, common | {name: Fact(value, origin) for name, value in shown.items()} | known)


DIALECTS = {
    dialect.release: dialect
    for dialect in (
        _dialect(
            "0.2",
            "0.4.x-issue144-mid-stream-chunk.sse",
            {**_OLD, "model": "null"},
            own_sample=False,
            content_type=Fact("application/json", composed("Q01")),
            object=Fact("chat.completion", composed("Q02")),
            id=_COUNTING_ID,
            index=_COUNTING_INDEX,
            finish_reason=_WITH_REASON,
        ),
        _dialect(
            "0.4",
            "0.4.x-issue144-mid-stream-chunk.sse",
            {**_OLD, "model": "null"},
            id=_COUNTING_ID,
            index=_COUNTING_INDEX,
            finish_reason=_WITH_REASON,
        ),
        _dialect(
            "0.6.87",
            "0.6.87-issue221-first-chunk.sse",
            # Of the index only the first chunk's is quoted, which is 0 either way.
            {**_OLD, "model": "named", "index": "zero"},
            id=_COUNTING_ID,
            finish_reason=_WITH_REASON,
        ),
        _dialect(
            "0.7.117",
            "0.7.117-issue263-first-chunk-payload.json",
            {**_OLD, "model": "named"},
            id=_CONSTANT_ID,
            index=_COUNTING_INDEX,
            finish_reason=_WITH_REASON,
        ),
        _dialect(
            "0.7.120",
            "0.7.120-issue273-chunk-annotated.txt",
            {**_OLD, "model": "named", "index": "zero"},
            id=_CONSTANT_ID,
            finish_reason=_WITH_REASON,
        ),
        _dialect(
            "0.8.101",
            "0.8.101-issue299-chunks.sse",
            {**_NEW, "model": "named", "index": "zero", "id": "constant"},
            finish_reason=_WITHOUT_REASON,
        ),
        _dialect(
            "0.8.117",
            "0.8.101-issue299-chunks.sse",
            {**_NEW, "model": "named", "index": "zero", "id": "constant"},
            own_sample=False,
            finish_reason=_WITHOUT_REASON,
        ),
        _dialect(
            DAEMON,
            "0.10.x-daemon-chunk-trimmed.sse",
            {**_NEW, "model": "named", "index": "zero", "id": "constant"},
            created_at=Fact("written", composed("Q08")),
            message=Fact("beside", composed("Q09")),
            tool_calls=Fact("empty", composed("Q13")),
            # Whether it is so in this release is not known; the other way is a case of its own.
            finish_reason=Fact("last", recorded("haiku")),
            done=Fact("sent", recorded("haiku")),
        ),
    )
}
