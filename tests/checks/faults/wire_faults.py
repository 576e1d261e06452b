"""Faults on the wire: what a server may do to a response, and what the official client makes of it over the shim.

Each fault is done by a raw server to one request for a stream, or to several; a client asks, and then asks once more
for a sound answer, with the same connections: it has to come, whatever was before it.
"""

import asyncio
import gc
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import shim
from checks.faults.outcomes import SETTLE_SECONDS, Holdings, Outcome
from checks.faults.wire_cuts import Ending, Recorded, Seen
from support.raw_server import (
    EVENT_STREAM,
    Close,
    Connection,
    Hold,
    RawRequest,
    RawServer,
    Reset,
    Script,
    Send,
    Step,
    chunk,
    last_chunk,
    plain_response,
    response_head,
    sse_response,
)
from support.streams import DONE, conforming, event
from support.talk import Answer, Client, default_family

_PLACE = "x-place"
_AFTERWARDS = "afterwards"
_HANGS_SECONDS = 120.0
_RETRIES = 2
"""What openai does by itself."""


@dataclass(frozen=True)
class Ask:
    """One request for a stream.

    Attributes:
        script: What the server does to it.
        expected: What the program should see.
        says: What the exception, or one of those behind it, should say.
        wrong: Called when all is over; says in words what else is not as it should be.
    """

    script: Script
    expected: Seen
    says: str = ""
    wrong: Callable[[], str] = str


@dataclass(frozen=True, kw_only=True)
class WireFault:
    """Something that a server does.

    Attributes:
        what: In a few words, for a table.
        asks: What is asked under a major, one after the other, and what should come of it.
        some: The same, for a look that takes less time.
        at_once: Whether everything is asked at the same time.
        timeout: The read timeout of the client.
        deadline: The seconds in which the program has to be told.
        retries: How often the client may ask again.
        policy: Of the shim.
        prompt: What the user says.
        lives: Whether the service still says which models it has.
        server: The class of the server.
    """

    what: str
    asks: Callable[[str], Sequence[Ask]]
    some: Callable[[str], Sequence[Ask]] | None = None
    at_once: bool = False
    timeout: float = 15.0
    deadline: float = 12.0
    retries: int = 0
    policy: shim.Policy | None = None
    prompt: str = "<|haiku|>"
    lives: bool = True
    server: type[RawServer] = RawServer


def play(name: str, mode: str, major: str, *, some: bool = False) -> Outcome:
    """Do a fault to a client.

    Args:
        name: Of a fault in `WIRE_FAULTS`.
        mode: "sync" or "async".
        major: Of the official client that is installed.
        some: Only some of the places of a cut instead of all.
    """
    fault = WIRE_FAULTS[name]
    asks = (fault.some or fault.asks)(major) if some else fault.asks(major)
    expected = _in_words([(ask.expected, ask.expected) for ask in asks])
    with fault.server(_serve(asks, lives=fault.lives)) as server:
        player = _Player(fault, asks, server, mode)
        player.start()
        player.join(_HANGS_SECONDS)
    # Without a server nothing can be waited for any more.
    player.join(_HANGS_SECONDS)
    if not player.seen:
        return Outcome(fault.what, major, mode, expected, f"hangs, or failed: {player.failure!r}", 0, fault.deadline)
    *seen, afterwards = player.seen
    words = _in_words([(one, ask.expected) for one, ask in zip(seen, asks, strict=True)])
    also = [f"then {afterwards} to a sound answer"] if afterwards != COMPLETE else []
    also += filter(None, (ask.wrong() for ask in asks))
    seen_in_words = ", ".join((words, *also))
    return Outcome(fault.what, major, mode, expected, seen_in_words, player.seconds, fault.deadline, player.leaks)


def _in_words(seen: Sequence[tuple[Seen, Seen]]) -> str:
    """What was seen, and what should have been: for many asks, how often what, and the first that is wrong."""
    if len(seen) == 1:
        return str(seen[0][0])
    wrong = [f"{one} instead of {expected} at {at}" for at, (one, expected) in enumerate(seen) if one != expected]
    if wrong:
        return f"{len(wrong)} of {len(seen)} wrong: {wrong[0]}"
    return ", ".join(f"{number} {kind}" for kind, number in Counter(one.kind for one, _ in seen).most_common())


def _serve(asks: Sequence[Ask], *, lives: bool) -> Script:
    def script(connection: Connection, request: RawRequest) -> Iterable[Step] | None:
        place = request.header(_PLACE)
        if place is None:  # the shim asks what the service has
            return plain_response(b'["m"]') if lives else [Reset()]
        if place == _AFTERWARDS:
            return SOUND
        wanted = asks[int(place)].script
        return wanted(connection, request) if callable(wanted) else wanted

    return script


class _Player(threading.Thread):
    """The program, in a thread that a hang does no harm to."""

    def __init__(self, fault: WireFault, asks: Sequence[Ask], server: RawServer, mode: str) -> None:
        super().__init__(name="player", daemon=True)
        self.seen: list[Seen] = []
        self.seconds = 0.0
        self.leaks: tuple[str, ...] = ()
        self.failure: BaseException | None = None
        self._fault = fault
        self._asks = asks
        self._server = server
        self._client = Client(default_family(), mode)

    def run(self) -> None:
        try:
            if self._client.mode == "async":
                asyncio.run(self._play_async())
            else:
                self._play()
        except Exception as error:  # noqa: BLE001 - the outcome tells it
            self.failure = error

    def _play(self) -> None:
        before = Holdings.now()
        with self._make() as official:
            places = range(len(self._asks))
            if self._fault.at_once:
                with ThreadPoolExecutor(len(places)) as pool:
                    seen = list(pool.map(lambda place: self._ask(official, place), places))
            else:
                seen = [self._ask(official, place) for place in places]
            over = time.monotonic() + SETTLE_SECONDS
            while (in_use := _in_use(official)) and time.monotonic() < over:
                gc.collect()
                time.sleep(0.02)
            afterwards = self._ask(official.with_options(max_retries=_RETRIES), _AFTERWARDS)
        self.leaks = (*before.leaks(), *in_use)
        self.seen = [*seen, afterwards]

    async def _play_async(self) -> None:
        # openai asks a thread for the name of the platform, and the loop keeps that thread.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        await asyncio.to_thread(int)
        before = Holdings.now()
        async with self._make() as official:
            places = range(len(self._asks))
            if self._fault.at_once:
                seen = await asyncio.gather(*(self._ask_async(official, place) for place in places))
            else:
                seen = [await self._ask_async(official, place) for place in places]
            over = time.monotonic() + SETTLE_SECONDS
            while (in_use := _in_use(official)) and time.monotonic() < over:
                gc.collect()
                await asyncio.sleep(0.02)
            afterwards = await self._ask_async(official.with_options(max_retries=_RETRIES), _AFTERWARDS)
        self.leaks = (*await before.leaks_async(), *in_use)
        self.seen = [*seen, afterwards]

    def _make(self) -> Any:
        options: dict[str, Any] = {"timeout": self._fault.timeout, "max_retries": self._fault.retries}
        if self._fault.policy:
            make = shim.http_client if self._client.mode == "sync" else shim.async_http_client
            options["http_client"] = make(policy=self._fault.policy)
        return self._client.make(self._server.base_url, **options)

    def _ask(self, official: Any, place: int | str) -> Seen:
        began = time.perf_counter()
        return self._told(self._client.ask_with(official, **self._parameters(place)), place, began)

    async def _ask_async(self, official: Any, place: int | str) -> Seen:
        began = time.perf_counter()
        return self._told(await self._client.ask_with_async(official, **self._parameters(place)), place, began)

    def _parameters(self, place: int | str) -> dict[str, Any]:
        messages = [{"role": "user", "content": self._fault.prompt}]
        return {"model": "m", "messages": messages, "extra_headers": {_PLACE: str(place)}}

    def _told(self, answer: Answer, place: int | str, began: float) -> Seen:
        self.seconds = max(self.seconds, time.perf_counter() - began)
        if answer.error is None:
            return Seen("complete", answer.text)
        kind = type(answer.error).__name__
        if code := getattr(answer.error, "code", None):
            kind += f" {code}"
        says = self._asks[place].says if isinstance(place, int) else ""
        if says not in (words := _words(answer.error)):
            kind += f" that says {words!r}"
        return Seen(kind, answer.text)


def _words(error: BaseException | None) -> str:
    words: list[str] = []
    while error is not None:
        words.append(str(error))
        error = error.__cause__
    return ", ".join(words)


def _in_use(official: Any) -> tuple[str, ...]:
    """The connections that the client's pool has not got back, although every answer is over."""
    transport = official._client._transport
    pool = getattr(transport, "inner", transport)._pool
    busy = (each for each in pool.connections if not (each.is_idle() or each.is_closed()))
    return tuple(f"connection {each.info()}" for each in busy)


# The answer that a fault is done to

PIECES = ("one ", "two ", "three")
TEXT = "".join(PIECES)
EVENTS = [event(each) for each in conforming(PIECES)]
BODY = b"".join([*EVENTS, DONE])
SOUND = sse_response([*EVENTS, DONE])
COMPLETE = Seen("complete", TEXT)
HALF = b"".join(EVENTS[:3])
"""The events of the first two pieces."""
HALF_TEXT = "one two "
WIRE = response_head() + chunk(BODY) + last_chunk()


def _one(
    what: str,
    script: Script,
    expected: Seen | str,
    before_3: str | None = None,
    *,
    text: str = "",
    says: str = "",
    wrong: Callable[[], str] = str,
    **options: Any,
) -> WireFault:
    """A fault that is done to one request; before openai 3 some errors are those of the HTTP library."""

    def asks(major: str) -> list[Ask]:
        kind = expected if before_3 is None or major == "3" else before_3
        return [Ask(script, kind if isinstance(kind, Seen) else Seen(kind, text), says, wrong)]

    return WireFault(what=what, asks=asks, **options)


def _sends(*data: bytes, end: Step | None = None) -> list[Step]:
    """Send this, one after the other, and leave the connection as it is."""
    return [*map(Send, data), *([end] if end else [])]


def _cut_off(*data: bytes) -> list[Step]:
    """Send this and close the connection."""
    return _sends(*data, end=Close())


def _broken(what: str, *data: bytes, end: Step | None = None, **options: Any) -> WireFault:
    """A response that breaks the protocol behind the first two pieces."""
    framed = response_head() + chunk(HALF)
    return _one(
        what,
        _sends(framed, *data, end=end or Close()),
        "APIConnectionError",
        "RemoteProtocolError",
        **{"text": HALF_TEXT, **options},
    )


def _lengths(*lengths: object, extra: Iterable[tuple[str, str]] = ()) -> bytes:
    headers = [*EVENT_STREAM, *(("Content-Length", str(length)) for length in lengths), *extra]
    return response_head(headers=headers, chunked=False)


def _encoded(coding: str, *, chunked: bool = True) -> bytes:
    return response_head(headers=[*EVENT_STREAM, ("Content-Encoding", coding)], chunked=chunked)


def _packed(body: bytes, wbits: int = 31) -> bytes:
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(body) + packer.flush()


def _lines(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("ascii")


_LENGTHS = {
    "length too long, complete": _one(
        "Content-Length too long, all of the answer there", _cut_off(_lengths(len(BODY) + 9) + BODY), COMPLETE
    ),
    "length too long, complete, silent": _one(
        "Content-Length too long, all of the answer there, then silence",
        _sends(_lengths(len(BODY) + 9) + BODY, end=Hold()),
        COMPLETE,
    ),
    "length too long": _one(
        "Content-Length too long, half of the answer there",
        _cut_off(_lengths(len(BODY)) + HALF),
        "APIConnectionError",
        "RemoteProtocolError",
        text=HALF_TEXT,
        says="closed connection",
    ),
    "length too short": _one(
        "Content-Length too short: the answer goes on behind it",
        _sends(_lengths(len(HALF)) + BODY),
        "APIError stream_truncated",
        text=HALF_TEXT,
        says="after 3 events",
    ),
    "length zero": _one(
        "Content-Length 0, the answer behind it", _sends(_lengths(0) + BODY), "InternalServerError empty_stream"
    ),
    "length negative": _one(
        "Content-Length negative", _cut_off(_lengths(-5) + BODY), "APIConnectionError", says="Content-Length"
    ),
    "length no number": _one(
        "Content-Length no number", _cut_off(_lengths("many") + BODY), "APIConnectionError", says="Content-Length"
    ),
    "length twice, different": _one(
        "two Content-Lengths that differ",
        _cut_off(_lengths(len(BODY), len(HALF)) + BODY),
        "APIConnectionError",
        says="Content-Length",
    ),
    "length twice, the same": _one(
        "two Content-Lengths that are the same", _sends(_lengths(len(BODY), len(BODY)) + BODY), COMPLETE
    ),
    "length and chunks": _one(
        "Content-Length beside chunked encoding",
        _sends(response_head(headers=[*EVENT_STREAM, ("Content-Length", "7")]) + chunk(BODY) + last_chunk()),
        COMPLETE,
    ),
    "transfer encoding unknown": _one(
        "a transfer encoding that nobody asked for",
        _cut_off(response_head(headers=[*EVENT_STREAM, ("Transfer-Encoding", "gzip")], chunked=False) + BODY),
        "APIConnectionError",
        says="Transfer-Encoding",
    ),
}

_CHUNKS = {
    "chunk size no number": _broken("a chunk size that is no number", b"zz\r\nhello\r\n", says="illegal chunk header"),
    "chunk size negative": _broken("a negative chunk size", b"-5\r\nhello\r\n", says="illegal chunk header"),
    "chunk size empty": _broken("an empty chunk size", b"\r\nhello\r\n", says="illegal chunk header"),
    "chunk size of 21 digits": _broken("a chunk size of 21 digits", b"f" * 21 + b"\r\nhello\r\n"),
    "chunk size huge": _broken(
        "a chunk of 4 GiB that is not sent", b"ffffffff\r\n" + EVENTS[3][:20], says="closed connection"
    ),
    "chunk size cut": _broken("a cut in a chunk size", b"1", says="closed connection"),
    "chunk without end": _broken("no line end behind a chunk", chunk(EVENTS[3])[:-2] + chunk(EVENTS[4]), text=TEXT),
    "chunk size endless": _broken("a chunk size line without end", *[b"0" * 65536] * 64),
    "first chunk size no number": _one(
        "a chunk size that is no number, before any event",
        _cut_off(response_head() + b"zz\r\nhello\r\n"),
        "InternalServerError empty_stream",
    ),
    "chunk extension": _one(
        "chunk extensions",
        _sends(response_head() + b'%x;a=b;c="d"\r\n%b\r\n' % (len(BODY), BODY) + b"0;e\r\n\r\n"),
        COMPLETE,
    ),
    "trailers": _one(
        "trailers behind the last chunk",
        _sends(response_head() + chunk(BODY) + b"0\r\nX-Sum: 1\r\nContent-Length: 5\r\n\r\n"),
        COMPLETE,
    ),
    "trailers endless": _one(
        "trailers without end",
        _cut_off(response_head() + chunk(BODY) + b"0\r\n", *[b"X-A: b\r\n" * 8192] * 64),
        COMPLETE,
    ),
    "trickle": _one("one byte at a time", _sends(*(WIRE[at : at + 1] for at in range(len(WIRE)))), COMPLETE),
    "trickle of chunks": _one(
        "one byte in each chunk",
        _sends(response_head(), *(chunk(BODY[at : at + 1]) for at in range(len(BODY))), last_chunk()),
        COMPLETE,
    ),
}

_CODINGS = {
    "gzip": _one(
        "gzip in spite of the request", _sends(_encoded("gzip") + chunk(_packed(BODY)) + last_chunk()), COMPLETE
    ),
    "deflate": _one(
        "deflate in spite of the request",
        _sends(_encoded("deflate") + chunk(_packed(BODY, 15)) + last_chunk()),
        COMPLETE,
    ),
    "gzip twice": _one(
        "gzip in deflate",
        _sends(_encoded("gzip, deflate") + chunk(_packed(_packed(BODY), 15)) + last_chunk()),
        "InternalServerError body_too_large",
    ),
    "gzip cut": _one(
        "half of a gzip stream, properly ended",
        _sends(_encoded("gzip") + chunk(_packed(HALF)[:-8]) + last_chunk()),
        "APIError stream_truncated",
        text=HALF_TEXT,
    ),
    "gzip broken off": _one(
        "half of a gzip stream, and the connection closed",
        _cut_off(_encoded("gzip") + chunk(_packed(HALF)[:-8])),
        "APIConnectionError",
        "RemoteProtocolError",
        text=HALF_TEXT,
    ),
    "no gzip": _one(
        "labelled gzip, and is not",
        _sends(_encoded("gzip") + chunk(BODY) + last_chunk()),
        "APIConnectionError",
        "DecodingError",
        says="header",
    ),
    "coding unknown, plain": _one(
        "labelled with an unknown coding, and plain", _sends(_encoded("x-none") + chunk(BODY) + last_chunk()), COMPLETE
    ),
    **{
        f"{coding} that cannot be read": _one(
            f"packed with {coding}, which nobody here can read",
            _sends(_encoded(coding) + chunk(bytes(range(128, 256)) * 4) + last_chunk()),
            "InternalServerError empty_stream",
        )
        for coding in ("br", "zstd", "x-none")
    },
    "gzip bomb": _one(
        "an event of 32 MiB in 32 KiB of gzip",
        _sends(_encoded("gzip") + chunk(_packed(HALF + b"data: " + bytes(2**25))) + last_chunk()),
        "APIError event_too_large",
        text=HALF_TEXT,
        says="larger than 1048576 bytes",
        policy=shim.Policy(max_event_bytes=2**20),
    ),
}


class _Flood:
    """Sends much, and notes how much of it a client takes and what the process holds meanwhile."""

    def __init__(self, pieces: Sequence[bytes], *, may_take: int, may_hold: int) -> None:
        """Send the pieces; more than ``may_take`` bytes taken, or ``may_hold`` held, is wrong."""
        self._pieces = pieces
        self._may_take = may_take
        self._may_hold = may_hold
        self._taken = 0
        self._held = 0

    def __call__(self, connection: Connection, request: RawRequest) -> Iterator[Step]:
        """Send, and look."""
        self._taken = self._held = 0
        began = _resident()
        for piece in self._pieces:
            yield Send(piece)
            self._taken += len(piece)
            self._held = max(self._held, _resident() - began)
        yield Close()

    def wrong(self) -> str:
        """Say if the client took or held too much."""
        words = [f"{self._taken >> 20} MiB taken"] if self._taken > self._may_take else []
        words += [f"{self._held >> 20} MiB held"] if self._held > self._may_hold else []
        return ", ".join(words)


def _resident() -> int:
    """The bytes of memory that the process has; 0 where that is not told in a simple way."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096
    except OSError:
        return 0


_BUFFERS = 24 * 2**20
"""What may be on its way in the sockets of both sides."""


def _flood(what: str, pieces: Iterable[bytes], *, limit: int, deadline: float = 12.0) -> WireFault:
    """An event that is larger than the limit of the policy."""
    flood = _Flood(
        [response_head() + chunk(HALF), *pieces], may_take=limit + _BUFFERS, may_hold=2 * limit + 2 * _BUFFERS
    )
    return _one(
        what,
        flood,
        "APIError event_too_large",
        text=HALF_TEXT,
        says=f"larger than {limit} bytes",
        wrong=flood.wrong,
        policy=shim.Policy(max_event_bytes=limit),
        deadline=deadline,
    )


def _endless(what: str, begin: bytes, piece: bytes) -> WireFault:
    """A head that does not end."""
    flood = _Flood([begin, *[piece] * (2**26 // len(piece))], may_take=_BUFFERS, may_hold=2 * _BUFFERS)
    return _one(what, flood, "APIConnectionError", wrong=flood.wrong)


_LIMIT = shim.Policy().max_event_bytes


def _one_event(size: int) -> list[bytes]:
    """An event of that size, in pieces that are chunks."""
    begin, end = b'data: {"choices":[{"index":0,"delta":{}}],"x":"', b'"}\n\n'
    rest = size - len(begin) - len(end)
    pieces = [b"x" * min(2**20, rest - at) for at in range(0, rest, 2**20)]
    return [chunk(piece) for piece in (begin, *pieces, end)]


_FLOODS = {
    "event of 64 MiB and 1": _flood(
        "an event of 64 MiB and 1 byte, the usual limit",
        [*_one_event(_LIMIT + 1), chunk(b"".join(EVENTS[3:]) + DONE) + last_chunk()],
        limit=_LIMIT,
        deadline=60,
    ),
    "line endless": _flood("a line without end", [chunk(b"data: "), *[chunk(b"x" * 2**18)] * 256], limit=2**20),
    "lines endless": _flood("an event without end, of short lines", [chunk(b"data: \n" * 2**10)] * 2**13, limit=2**18),
    "event of 1 MiB and 1": _flood(
        "an event 1 byte larger than the policy says",
        [*_one_event(2**20 + 1), chunk(b"".join(EVENTS[3:]) + DONE) + last_chunk()],
        limit=2**20,
    ),
    "event of 1 MiB": _one(
        "an event as large as the policy says",
        _sends(response_head() + chunk(HALF), *_one_event(2**20), chunk(b"".join(EVENTS[3:]) + DONE) + last_chunk()),
        COMPLETE,
        policy=shim.Policy(max_event_bytes=2**20),
    ),
    "headers endless": _endless("headers without end", b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 2**15),
    "header endless": _endless("a header line without end", b"HTTP/1.1 200 OK\r\nX-A: ", b"b" * 2**18),
    "status line endless": _endless("a status line without end", b"HTTP/1.1 200 O", b"K" * 2**18),
}

_HEADS = {
    "no HTTP": _one(
        "a status line that is no HTTP",
        _cut_off(b"220 mail ready\r\n\r\n"),
        "APIConnectionError",
        says="illegal status line",
    ),
    "no status": _one(
        "a status that is no number",
        _cut_off(_lines("HTTP/1.1 fine OK")),
        "APIConnectionError",
        says="illegal status line",
    ),
    "TLS alert": _one("a TLS alert", _cut_off(b"\x15\x03\x03\x00\x02\x02\x28"), "APIConnectionError"),
    "HTTP/2": _one(
        "frames of HTTP/2",
        _cut_off(b"\x00\x00\x12\x04" + bytes(23) + b"\r\n\r\n"),
        "APIConnectionError",
        says="illegal status line",
    ),
    "HTTP/2 preface": _one(
        "the preface of HTTP/2",
        _cut_off(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        "APIConnectionError",
        says="illegal status line",
    ),
    "SSE at once": _one("a body without a head", _cut_off(BODY), "APIConnectionError", says="illegal status line"),
    "header no HTTP": _one(
        "a header line that is no HTTP",
        _cut_off(_lines("HTTP/1.1 200 OK", "no colon")),
        "APIConnectionError",
        says="illegal header line",
    ),
    "HTTP/1.0": _one("HTTP/1.0 without a length", _cut_off(_lines("HTTP/1.0 200 OK") + BODY), COMPLETE),
    "HTTP/1.0, half": _one(
        "HTTP/1.0 without a length, half of the answer",
        _cut_off(_lines("HTTP/1.0 200 OK") + HALF),
        "APIError stream_truncated",
        text=HALF_TEXT,
        says="after 3 events",
    ),
    "HTTP/1.0, silent": _one(
        "HTTP/1.0 without a length, held open", _sends(_lines("HTTP/1.0 200 OK") + BODY, end=Hold()), COMPLETE
    ),
    "nothing": _one("a closed connection instead of an answer", [Close()], "APIConnectionError", says="disconnected"),
    **{
        f"{status} before": _one(
            f"{status} before the answer", [Send(_lines(f"HTTP/1.1 {status} Wait", "Link: </a>")), *SOUND], COMPLETE
        )
        for status in (100, 102, 103)
    },
    "1xx thousands": _one(
        "2,000 times 102 before the answer", [Send(_lines("HTTP/1.1 102 Wait") * 2000), *SOUND], COMPLETE
    ),
    "1xx alone": _one(
        "2,000 times 102 and no answer", _cut_off(_lines("HTTP/1.1 102 Wait") * 2000), "APIConnectionError"
    ),
    "100 and silence": _one(
        "100, and then silence", _sends(_lines("HTTP/1.1 100 Continue"), end=Hold()), "APITimeoutError", timeout=0.5
    ),
    "101": _one(
        "101, another protocol",
        _cut_off(_lines("HTTP/1.1 101 Switching Protocols", "Upgrade: x", "Connection: Upgrade") + BODY),
        "APIConnectionError",
    ),
    "204": _one("204", _sends(_lines("HTTP/1.1 204 No Content")), "InternalServerError empty_stream"),
    "204 and a body": _one(
        "204 and a body all the same",
        _sends(_lines("HTTP/1.1 204 No Content", f"Content-Length: {len(BODY)}") + BODY),
        "InternalServerError empty_stream",
    ),
    "304": _one("304", _sends(_lines("HTTP/1.1 304 Not Modified")), "APIStatusError"),
    "304 and a body": _one(
        "304 and a body all the same",
        _sends(_lines("HTTP/1.1 304 Not Modified", f"Content-Length: {len(BODY)}") + BODY),
        "APIStatusError",
    ),
    **{
        f"{status} to itself": _one(
            f"{status} to itself",
            plain_response(b"", status, [("Location", "/v1/chat/completions")]),
            "APIConnectionError",
            says="redirects",
        )
        for status in (302, 307)
    },
    "307 to nowhere": _one("307 without a place", plain_response(b"", 307, []), "APIStatusError"),
}


class _Hasty(RawServer):
    """Has a request answered as soon as its head is there, and reads the body away behind."""

    def __init__(self, script: Script) -> None:
        """Prepare to have the script answer each request once."""

        def once(connection: Connection, request: RawRequest) -> Iterable[Step] | None:
            if request.body and connection in self._answered:
                self._answered.remove(connection)
                return None
            return script(connection, request) if callable(script) else script

        super().__init__(once)
        self._answered: set[Connection] = set()

    def _read(self, connection: Connection) -> None:
        super()._read(connection)
        head, end, _ = bytes(connection._received[: 2**14]).partition(b"\r\n\r\n")
        if end and connection not in self._answered:
            self._answered.add(connection)
            line, *lines = head.decode("ascii").split("\r\n")
            method, path, _ = line.split(" ")
            headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
            connection._requests.put(RawRequest(method, path, headers, b""))


_IN_ONE = [Send(WIRE)]


def _several(what: str, *asks: Ask, **options: Any) -> WireFault:
    return WireFault(what=what, asks=lambda _: asks, **options)


class _Once:
    """Closes the connection at the first request, and answers the others."""

    def __init__(self) -> None:
        self._is_done = False

    def __call__(self, connection: Connection, request: RawRequest) -> list[Step]:
        self._is_done = not self._is_done
        return [Close()] if self._is_done else _IN_ONE


_ORDER = {
    "two responses": _several(
        "a second response, which nobody asked for, in the same packet",
        Ask([Send(WIRE + WIRE.replace(b"three", b"lies!"))], COMPLETE),
        Ask(_IN_ONE, COMPLETE),
    ),
    "closed when idle": _several(
        "a connection closed behind an answer, and used again",
        Ask([*_IN_ONE, Close()], COMPLETE),
        Ask(_IN_ONE, COMPLETE),
        retries=2,
    ),
    "closed at the next request": _several(
        "a connection closed at the second request",
        Ask(_IN_ONE, COMPLETE),
        Ask([Close()], Seen("APIConnectionError"), "disconnected"),
    ),
    "closed at the next request, retried": _several(
        "a connection closed at the second request, which may be repeated",
        Ask(_IN_ONE, COMPLETE),
        Ask(_Once(), COMPLETE),
        retries=2,
    ),
    "answered early": _one(
        "the answer before the request was there", _IN_ONE, COMPLETE, prompt="x" * 2**22, server=_Hasty
    ),
    "refused early": _one(
        "413 before the request was there",
        plain_response(b'{"error":{"message":"too long","type":"invalid_request_error"}}', 413),
        "APIStatusError",
        says="too long",
        prompt="x" * 2**22,
        server=_Hasty,
    ),
}

_ENDINGS: dict[Ending, str] = {
    "end": "properly ended",
    "close": "closed",
    "reset": "reset",
    "silence": "silent",
}


def _cut(recorded: Recorded, ending: Ending) -> WireFault:
    def asks(places: Iterable[int], major: str) -> list[Ask]:
        return [Ask(recorded.cut(place, ending), recorded.expected(place, ending, major)) for place in places]

    def some(major: str) -> list[Ask]:
        return asks(recorded.some_places(ending), major)

    if ending == "silence":  # it has to be waited for
        what = f"a stream of {recorded.release} {_ENDINGS[ending]} at its boundaries"
        return WireFault(what=what, asks=some, at_once=True, timeout=1.5, lives=False)
    what = f"a stream of {recorded.release} {_ENDINGS[ending]} at every byte"
    return WireFault(what=what, asks=lambda major: asks(recorded.places(ending), major), some=some, lives=False)


WIRE_FAULTS: dict[str, WireFault] = {
    **{f"{release} {ending}": _cut(Recorded(release), ending) for release in ("1.0.0", "2.2.1") for ending in _ENDINGS},
    **_LENGTHS,
    **_CHUNKS,
    **_CODINGS,
    **_FLOODS,
    **_HEADS,
    **_ORDER,
}
