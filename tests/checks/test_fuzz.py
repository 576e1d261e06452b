"""What the fuzzer looks at holds of all that it begins with, and of every input that it has found to fail."""

import httpx
import pytest

from checks.fuzz import target
from checks.fuzz.run import shrunk
from checks.fuzz.seeds import dictionary, largest, seeds
from checks.fuzz.target import KEY, TARGETS, decoded, encoded, run
from shim.core.jsontext import DocumentScanner
from support.streams import DONE, conforming, stream

SEEDS = list(seeds())
COMPLETION = b'{"choices":[{"message":{}}]}'


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_passes(name):
    """Each recorded, quoted or composed input passes, and there are some for each target."""
    own = [data for data in SEEDS if decoded(data).target == name]
    assert own
    for data in own:
        run(data)


FOUND = {
    "a key that the service repeats as an id": encoded("filler", b'{"id":"%b"}' % KEY, cuts=4),
    "a key in the type of a tool": encoded("filler", b'{"type":"%b"}' % KEY, cuts=1),
    "an event that is called an error and has no data": encoded("framer", b"event:error\n\n"),
    "no content": encoded("content", b""),
    "an error that is not UTF-8, of an unknown service": encoded(
        "stream", b' {"error":{"message":"no\xfa"}}', request=0b100000
    ),
    "a control character in a name": encoded("request", b'{"tools":[{"function":{"\x00":{}}}]}'),
}


@pytest.mark.parametrize("data", FOUND.values(), ids=FOUND)
def test_inputs_that_failed_once_pass(data):
    """What failed once does not fail any more."""
    run(data)


def test_any_bytes_are_an_input():
    """Inputs that are too short, too long, or have any head."""
    for data in (b"", b"\x00", b"\xff" * 5, b"\x03\x01" + b"\xff" * 20, b"\x00\x00\x00\x00\x07" + b"x" * largest()):
        run(data)
    case = decoded(encoded("content", b"ab", request=0b10101, policy=0b1101, cuts=9, times=3))
    assert (case.target, case.body, case.cuts) == ("content", b"ab" * 8, 9)
    assert case.request.tools
    assert case.request.include_usage
    assert not case.request.several_choices
    assert (case.policy.reasoning, case.policy.strict, case.policy.max_event_bytes) == ("split", True, 90)


@pytest.mark.parametrize("cuts", [1, 2, 4])
def test_pieces_add_up_to_the_body(cuts):
    """However it is cut, it is the same body, in more than one piece."""
    body = b'data: {"a": "\xc3\xa9\\n"}\n\n' * 90
    case = decoded(encoded("stream", body, cuts=cuts))
    assert b"".join(case.pieces) == body
    assert len(case.pieces) > 1
    assert decoded(encoded("stream", body, cuts=cuts)).pieces == case.pieces


# What each target is there to see: a core that is broken in the simplest way.


def forgetful(self, data, start=0):
    """A scanner that forgets, at the end of a piece, that a character was escaped."""
    end = WHOLE(self, data, start)
    self._escaped = False
    return end


WHOLE = DocumentScanner.scan


def test_a_core_that_depends_on_the_cuts_is_seen(monkeypatch):
    """Some seed fails, and what is left of it is short."""
    monkeypatch.setattr(DocumentScanner, "scan", forgetful)
    shortest = shrunk(next(data for data in SEEDS if fails(data)), seconds=60)
    assert fails(shortest)
    assert len(decoded(shortest).body) < 40


def fails(data):
    try:
        run(data)
    except AssertionError as error:
        return str(error).startswith(("cuts", "single bytes"))
    return False


class LosesBytes(target.StreamRepairer):
    """Drops the last byte of each piece."""

    def feed(self, data):
        return super().feed(data[:-1])


class IsFastAndLosesEvents(target.FastStreamRepairer):
    """Does not count the events whose output it remembers."""

    def feed(self, data):
        events = self.report.events
        output = super().feed(data)
        self.report.events = min(self.report.events, events + 3)
        return output


class GoesOn(target.StreamRepairer):
    """Emits something after the end."""

    def feed(self, data):
        return super().feed(data) or (data if self.has_ended else b"")


class Shouts(target.Framer):
    """Gives other payloads than came."""

    def feed(self, chunk):
        return (frame._replace(data=frame.data and frame.data.upper()) for frame in super().feed(chunk))


class LosesText(target.ContentText):
    """Drops what stands at the end of a piece."""

    def feed(self, text, *, at_end=False, is_cut_off=False):
        return super().feed(text.removesuffix("!"), at_end=at_end, is_cut_off=is_cut_off)


def asks_otherwise(*_):
    """Send something else."""
    yield target.Send(httpx.Request("POST", "http://127.0.0.1:1/", content=b'{"n": 2}'))


def tells_the_opposite(repair):
    return lambda *body, **options: not repair(*body, **options)


@pytest.mark.parametrize(
    ("data", "part", "broken"),
    [
        (encoded("stream", b"data: {}\n\n"), "StreamRepairer", LosesBytes),
        (encoded("responses stream", b"data: {}\n\n"), "StreamRepairer", LosesBytes),
        (encoded("stream", DONE), "StreamRepairer", GoesOn),
        (encoded("stream", stream(conforming("abcdefgh"))), "FastStreamRepairer", IsFastAndLosesEvents),
        (encoded("framer", b"data: x\n\n"), "Framer", Shouts),
        (encoded("content", b"Hello!", request=1), "ContentText", LosesText),
        (encoded("completion", COMPLETION), "repair_completion", tells_the_opposite(target.repair_completion)),
        (encoded("models", b'{"id":"m"}'), "repair_models", tells_the_opposite(target.repair_models)),
        (
            encoded("response", b'{"output":[]}'),
            "repair_response",
            tells_the_opposite(target.repair_response),
        ),
        (encoded("error body", b"x"), "rebuild_body", lambda *error, **asked: b'{"error":{"message":""}}'),
        (encoded("request", b'{"n": 1}'), "start_exchange", asks_otherwise),
        (encoded("filler", KEY), "redact", lambda recording, **options: recording),
    ],
)
def test_what_is_broken_is_seen(monkeypatch, data, part, broken):
    """A part of the core that does not do its work fails its target, and passes as it is."""
    run(data)
    monkeypatch.setattr(target, part, broken)
    with pytest.raises(AssertionError):
        run(data)


def test_libfuzzer_accepts_every_word():
    """No word is one that libFuzzer refuses: empty, or longer than 64 bytes."""
    assert all(0 < len(word) <= 64 for word in dictionary())
