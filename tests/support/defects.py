"""Streams with one defect each, composed from an answer that has none."""

import json
from dataclasses import dataclass
from typing import Any

from shim.repairs import Repair
from support.streams import DONE, NOW, chunk, conforming, stream

GOOD = conforming()
HEAD, *MIDDLE, LAST = GOOD
TEXT = "Hello world"


@dataclass(frozen=True)
class Defect:
    """A stream that says ``TEXT`` and has one defect.

    Attributes:
        code: The repair that it needs.
        body: The stream.
        name: What tells it apart from the other defects of the code.
    """

    code: Repair
    body: bytes
    name: str = ""

    def __str__(self):
        return f"{self.code.value}-{self.name}" if self.name else self.code.value


def each_chunk(**fields: Any) -> list[dict[str, Any]]:
    """The good chunks with other fields, given as values or as functions of the chunk's number; ``...`` removes one."""
    return [_changed(good, number, fields) for number, good in enumerate(GOOD)]


def each_choice(**fields: Any) -> list[dict[str, Any]]:
    """The same for their choices."""
    return [{**good, "choices": [_changed(good["choices"][0], number, fields)]} for number, good in enumerate(GOOD)]


def each_delta(**fields: Any) -> list[dict[str, Any]]:
    """The same for the deltas of their choices."""
    return each_choice(delta=lambda number: _changed(GOOD[number]["choices"][0]["delta"], number, fields))


def last_choice(**fields: Any) -> list[dict[str, Any]]:
    """The good chunks with other fields in the last choice."""
    return [*GOOD[:-1], {**LAST, "choices": [_changed(LAST["choices"][0], 0, fields)]}]


def text_of_delta(number: int) -> str:
    """The content of a good chunk."""
    return GOOD[number]["choices"][0]["delta"].get("content", "")


def _changed(value: dict[str, Any], number: int, fields: dict[str, Any]) -> dict[str, Any]:
    new = {**value, **{name: field(number) if callable(field) else field for name, field in fields.items()}}
    return {name: field for name, field in new.items() if field is not ...}


def lines_of(chunks: list[dict[str, Any]], before: str = "", between: str = "\n", after: str = "\n") -> bytes:
    """The chunks as JSON without the framing of events."""
    return (before + between.join(json.dumps(each) for each in chunks) + after).encode()


DEFECTS = [
    Defect(Repair.MISSING_DATA_PREFIX, lines_of(GOOD), "json lines"),
    Defect(Repair.MISSING_DATA_PREFIX, lines_of(GOOD, between="", after=""), "concatenated"),
    Defect(Repair.MISSING_DATA_PREFIX, lines_of(GOOD, "[", ",", "]"), "array"),
    Defect(Repair.MISSING_DATA_PREFIX, lines_of(GOOD, "[\n ", ",\n ", "\n]\n"), "array over lines"),
    Defect(Repair.MISSING_DATA_PREFIX, lines_of(GOOD) + b"[DONE]\n", "bare end marker"),
    Defect(Repair.MISSING_DATA_PREFIX, json.dumps(GOOD, indent=2).encode(), "pretty array"),
    Defect(Repair.MISSING_DATA_PREFIX, stream(GOOD).replace(b"data:", b"Data:"), "capital"),
    Defect(Repair.MISSING_DATA_PREFIX, stream(GOOD).replace(b"data:", b" data:"), "indented"),
    Defect(Repair.MISSING_DATA_PREFIX, b"data: " + lines_of(GOOD, between="", after="\n\n") + DONE, "in one event"),
    Defect(Repair.DOUBLE_DATA_PREFIX, stream(GOOD).replace(b"data:", b"data: data:")),
    Defect(Repair.DOUBLE_DATA_PREFIX, stream(GOOD).replace(b"data: ", b"data:data: data:"), "thrice"),
    Defect(Repair.EVENT_BOUNDARY, stream(GOOD).replace(b"\n\n", b"\n"), "one newline"),
    Defect(Repair.EVENT_BOUNDARY, stream(GOOD).replace(b"\n\n", b"\r\n"), "one line end"),
    Defect(Repair.EVENT_BOUNDARY, stream(GOOD, done=b"").removesuffix(b"\n"), "last blank line"),
    Defect(Repair.EVENT_BOUNDARY, stream(GOOD, done=b"").removesuffix(b"\n\n"), "last line end"),
    Defect(Repair.EVENT_BOUNDARY, b"\xef\xbb\xbf" + stream(GOOD), "byte order mark"),
    Defect(Repair.EVENT_BOUNDARY, b": x\n\n\xef\xbb\xbf" + stream(GOOD), "byte order mark within"),
    Defect(
        Repair.EVENT_BOUNDARY, b": x\n\n\xef\xbb\xbf\xef\xbb\xbf\n" + b"\xef\xbb\xbf" + stream(GOOD), "byte order marks"
    ),
    Defect(Repair.EVENT_BOUNDARY, b"data:\n\n" + stream(GOOD), "empty data"),
    Defect(Repair.EVENT_BOUNDARY, b"data: ping\n\n" + stream(GOOD), "text keep-alive"),
    Defect(Repair.DONE_MARKER, stream(GOOD, done=b""), "missing"),
    Defect(Repair.DONE_MARKER, stream(GOOD, done=b"data: [done]\n\n"), "small"),
    Defect(Repair.DONE_MARKER, stream(GOOD, done=b"data: DONE\n\n"), "bare word"),
    Defect(Repair.DONE_MARKER, stream(GOOD, done=b'data: "[DONE]"\n\n'), "quoted"),
    Defect(Repair.OBJECT, stream(each_chunk(object="chat.completion"))),
    Defect(Repair.OBJECT, stream(each_chunk(object=...)), "missing"),
    Defect(Repair.ID, stream(each_chunk(id=lambda number: f"chat.id.{number}")), "counting"),
    Defect(Repair.ID, stream(each_chunk(id=lambda number: f"chatcmpl-{number}")), "changing"),
    Defect(Repair.ID, stream(each_chunk(id=...)), "missing"),
    Defect(Repair.CREATED, stream(each_chunk(created=lambda number: NOW + number)), "changing"),
    Defect(Repair.CREATED, stream(each_chunk(created=...)), "missing"),
    Defect(Repair.CREATED, stream(each_chunk(created=lambda number: str(NOW))), "text"),
    Defect(Repair.CREATED, stream(each_chunk(created=0)), "zero"),
    Defect(Repair.CREATED, stream(each_chunk(created=float("inf"))), "infinite"),
    Defect(Repair.MODEL, stream(each_chunk(model=None)), "null"),
    Defect(Repair.MODEL, stream(each_chunk(model=...)), "missing"),
    Defect(Repair.CHOICE_INDEX, stream(each_choice(index=lambda number: number)), "counting"),
    Defect(Repair.CHOICE_INDEX, stream(each_choice(index=...)), "missing"),
    Defect(
        Repair.MESSAGE_TO_DELTA,
        stream(
            [{**g, "choices": [{"index": 0, "message": g["choices"][0]["delta"], "finish_reason": None}]} for g in GOOD]
        ),
    ),
    Defect(
        Repair.MESSAGE_BESIDE_DELTA,
        stream(each_choice(message=lambda number: {"role": "assistant", "content": "x" * len(text_of_delta(number))})),
    ),
    Defect(Repair.CHUNK_FORM, stream(last_choice(delta=...)), "no delta"),
    Defect(Repair.CHUNK_FORM, stream(last_choice(delta=None)), "delta null"),
    Defect(Repair.CHUNK_FORM, stream(last_choice(delta="")), "delta an empty text"),
    Defect(Repair.CHUNK_FORM, stream([HEAD, *each_choice(delta=text_of_delta)[1:]]), "delta a text"),
    Defect(Repair.CHUNK_FORM, stream([HEAD, *each_choice(delta=..., text=text_of_delta)[1:]]), "no delta but a text"),
    Defect(Repair.CHUNK_FORM, stream(each_delta(content=lambda number: [text_of_delta(number)])), "content a list"),
    Defect(
        Repair.CHUNK_FORM,
        stream(each_delta(content=lambda number: [{"type": "text", "text": text_of_delta(number)}])),
        "content in parts",
    ),
    Defect(
        Repair.CHUNK_FORM,
        stream(each_delta(content=lambda number: {"type": "text", "text": text_of_delta(number)})),
        "content an object",
    ),
    Defect(
        Repair.CHUNK_FORM, stream(each_chunk(choices=lambda number: GOOD[number]["choices"][0])), "choices an object"
    ),
    Defect(
        Repair.CHUNK_FORM,
        stream(each_chunk(choices=lambda number: [None, *GOOD[number]["choices"]])),
        "null among the choices",
    ),
    Defect(Repair.CHUNK_FORM, stream([GOOD[:2], GOOD[2:]]), "lists of chunks"),
    *(
        Defect(Repair.CHUNK_FORM, stream([*GOOD[:2], nothing, *GOOD[2:]]), f"an event of {json.dumps(nothing)}")
        for nothing in (None, {}, [], "", {"type": "ping"}, {"choices": None}, {**HEAD, "choices": []})
    ),
    Defect(Repair.ROLE, stream(each_delta(role="assistant"))),
    Defect(Repair.FOREIGN_MEMBERS, stream(each_choice(finish_details=None)), "choice"),
    Defect(Repair.FINISH_REASON, stream(GOOD[:-1]), "none"),
    Defect(Repair.FINISH_REASON, stream([*GOOD, LAST]), "twice"),
    Defect(Repair.FINISH_REASON, stream(each_choice(finish_reason="stop")), "in every chunk"),
    Defect(Repair.USAGE, stream([*GOOD, chunk({}) | {"choices": [], "usage": {"total_tokens": 1}}]), "not asked for"),
    Defect(Repair.USAGE, stream(each_chunk(usage={"total_tokens": 1})), "in every chunk"),
]
