"""Exchanges recorded on real sockets, and replayed without any."""

import gzip
import itertools
import json
import threading
import time

import httpcore
import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

import shim
from shim.capture.recording import FORMAT, Piece, Recording, RecordingTransport, ReplayTransport
from shim.errors import ServiceError
from support.captures import steps
from support.raw_server import Hold, RawServer, Send, Sleep, in_turn, plain_response, response_head, sse_response
from support.streams import DONE, betalgo, event
from support.talk import MESSAGES

EVENTS = [*map(event, betalgo(("Hello", " world"))), DONE]
WHOLE = b"".join(step.data for step in sse_response(EVENTS))
GAP = 0.02
ENDS = ["terminated", "cut", "reset", "held", "close"]


def make(transport, base_url="http://127.0.0.1:1/v1", **options):
    """The official client on a transport of httpx, with or without the repair under it."""
    http = httpx.Client(transport=transport, timeout=10)
    return openai.OpenAI(base_url=base_url, api_key="sk-secret-1", http_client=http, max_retries=0, **options)


def ask(client):
    """All that a program gets: each chunk, and the error that it ends with."""
    got = []
    try:
        with client.chat.completions.create(model="m", messages=MESSAGES, stream=True) as stream:
            for chunk in stream:
                got.append(chunk.model_dump(exclude={"id"}))  # noqa: PERF401 - what came before an error counts
    except openai.APIError as error:
        got.append((type(error), str(error)))
    except (httpx.HTTPError, IndexError) as error:  # 1.x and 2.x let through what happens behind the first chunk
        got.append(type(error))
    return got


def record(script, *, repaired=True, deadline=None):
    """Ask a raw server once; give the recording and what the program got."""
    with RawServer(script) as server:
        inner = RecordingTransport(verify=False, deadline=deadline)
        with make(shim.RepairTransport(inner) if repaired else inner, server.base_url) as client:
            got = ask(client)
    [recording] = inner.recordings
    return recording, got


def replayed(recording, *, repaired=True, timed=False):
    inner = ReplayTransport(recording, timed=timed)
    with make(shim.RepairTransport(inner) if repaired else inner) as client:
        return ask(client)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("repaired", [True, False], ids=["repaired", "plain"])
def test_replay_equals_live(end, repaired):
    """A client gets the same from the replay as from the service, whatever the end; from a raw server, too."""
    events = EVENTS if end in ("terminated", "held") else EVENTS[:2]
    if end == "held" and not repaired:
        events = EVENTS[:1]
    deadline = time.monotonic() + 1.0 if end == "held" else None
    recording, got = record(sse_response(events, end=end, gap=GAP), repaired=repaired, deadline=deadline)
    assert replayed(recording, repaired=repaired) == got
    assert replayed(recording, repaired=repaired, timed=True) == got
    again, served = record(steps(recording), repaired=repaired, deadline=deadline and time.monotonic() + 1.0)
    assert served == got
    assert again.answer == recording.answer
    assert again.ended == recording.ended


def boundaries(pieces):
    """The offsets at which the pieces of a connection end."""
    return [*itertools.accumulate(map(len, pieces))]


@pytest.mark.parametrize("end", ENDS)
def test_every_byte_and_piece_is_recorded(end):
    """Every byte of the connection is noted, as its reads gave it, and how it ended."""
    script = [each for step in sse_response(EVENTS, end=end) for each in (Sleep(GAP), step)]
    sent = [step.data for step in script if isinstance(step, Send)]
    deadline = time.monotonic() + 1.0 if end == "held" else None
    with RawServer(script) as server, RecordingTransport(verify=False, deadline=deadline) as transport:
        with httpx.Client(transport=transport) as client:
            try:
                client.post(f"{server.url}/v1/x?y=1", headers={"X-Key": "1"}, json={"a": "b"})
            except httpx.TransportError as error:
                raised = type(error)
            else:
                raised = None
        [recording] = transport.recordings
    assert recording.answer == b"".join(sent)
    # On a busy machine one read may give what two writes have sent.
    received = boundaries(piece.data for piece in recording.pieces)
    assert len(received) > 1
    assert set(received) <= set(boundaries(sent))
    moments = [piece.at for piece in recording.pieces]
    assert moments == sorted(moments)
    assert moments[0] >= 0
    assert moments[-1] >= GAP
    assert (recording.ended, raised) == {
        "terminated": (None, None),
        "cut": ("closed", httpx.RemoteProtocolError),
        "reset": ("reset", httpx.ReadError),
        "held": ("deadline", httpx.ReadTimeout),
        "close": ("closed", None),
    }[end]
    assert (recording.method, recording.target) == ("POST", "/v1/x?y=1")
    assert json.loads(recording.body) == {"a": "b"}
    assert ("X-Key", "1") in recording.headers
    assert not recording.is_redacted


def test_requests_on_one_connection_are_kept_apart():
    """A connection that is used again is one connection and two recordings."""
    scripts = [plain_response(b'{"a": 1}'), plain_response(b'{"b": 2}')]
    with RawServer(in_turn(*scripts)) as server, RecordingTransport(verify=False) as transport:
        with httpx.Client(transport=transport) as client:
            assert client.get(f"{server.url}/a").json() == {"a": 1}
            assert client.get(f"{server.url}/b").json() == {"b": 2}
        assert server.connections == transport.connections == 1
    assert [each.target for each in transport.recordings] == ["/a", "/b"]
    for recording, script in zip(transport.recordings, scripts, strict=True):
        assert recording.answer == script[0].data
        assert recording.ended is None


def test_left_answer_is_recorded_as_far_as_it_was_read():
    """What a client does not wait for is not noted, and not taken for the service's doing."""
    with RawServer(sse_response(EVENTS[:2], end="held", gap=GAP)) as server:
        with RecordingTransport(verify=False) as transport, httpx.Client(transport=transport) as client:
            with client.stream("GET", server.url) as response:
                first = next(response.iter_bytes())
            server.wait_for_close()
    [recording] = transport.recordings
    assert recording.answer.endswith(b"\r\n")
    assert first in recording.answer
    assert recording.ended is None


def test_wait_after_the_end_marker_is_recorded():
    """The short wait for the end of the body after the end marker is a read that timed out."""
    recording, got = record(sse_response(EVENTS, end="held"))
    assert recording.ended == "deadline"
    assert recording.answer + b"0\r\n\r\n" == WHOLE
    assert replayed(recording) == got


@pytest.mark.parametrize("phase", ["read", "write"])
def test_deadline_ends_a_slow_answer(phase):
    """No request lasts beyond the deadline, though each single read or write is short."""
    drip = [Send(response_head()), *(step for _ in range(400) for step in (Sleep(0.05), Send(b"1\r\nx\r\n")))]
    with RawServer(drip if phase == "read" else [Hold()]) as server, RecordingTransport(verify=False) as transport:
        transport.deadline = time.monotonic() + (0.4 if phase == "read" else -1.0)
        with httpx.Client(transport=transport, timeout=None) as client:  # noqa: S113 - the deadline is the timeout
            if phase == "write":
                with pytest.raises(httpx.ConnectTimeout):
                    client.get(server.url)
                transport.deadline = None
                stream = transport._pool._network_backend.connect_tcp("127.0.0.1", server.port)
                transport.deadline = time.monotonic() - 1.0
                with pytest.raises(httpcore.WriteTimeout):
                    stream.write(b"GET")
                stream.close()
            else:
                with pytest.raises(httpx.ReadTimeout):
                    client.get(server.url)
    assert transport.recordings[0].ended == ("deadline" if phase == "read" else None)


def test_deadline_ends_a_handshake():
    """A service that does not answer a TLS handshake is given up at the deadline."""
    with RawServer([Hold()]) as server:
        with RecordingTransport(verify=False, deadline=time.monotonic() + 0.3) as transport:
            with httpx.Client(transport=transport, timeout=None) as client, pytest.raises(httpx.ConnectTimeout):  # noqa: S113 - the same
                client.get(f"https://127.0.0.1:{server.port}/")
    assert transport.connections == 1


def test_timeout_of_the_client_is_recorded():
    """A client's own timeout, where it comes first, is noted the same way."""
    with RawServer([Send(response_head()), Hold()]) as server:
        with RecordingTransport(verify=False, deadline=time.monotonic() + 60) as transport:
            with httpx.Client(transport=transport, timeout=0.2) as client, pytest.raises(httpx.ReadTimeout):
                client.get(server.url)
    assert transport.recordings[0].ended == "deadline"


def test_refused_connection_is_recorded():
    """A request that is never answered is noted, too."""
    with RecordingTransport(verify=False) as transport, httpx.Client(transport=transport) as client:
        with pytest.raises(httpx.ConnectError):
            client.get("http://127.0.0.1:9/v1")
    assert [each.pieces for each in transport.recordings] == [[]]
    assert transport.connections == 0


def test_httpx_keeps_its_pool_in_the_expected_place():
    """httpx keeps its pool where these transports put theirs, with the same settings."""
    theirs = httpx.HTTPTransport()._pool
    for transport in (RecordingTransport(), ReplayTransport(Recording("GET", "/", [], b""))):
        ours = transport._pool
        assert type(ours) is type(theirs)
        names = ("_max_connections", "_max_keepalive_connections", "_keepalive_expiry", "_http1", "_http2", "_retries")
        assert [getattr(ours, name) for name in names] == [getattr(theirs, name) for name in names]
        transport.close()


class TestReplay:
    """What a replay does besides giving the pieces."""

    def test_small_reads_get_a_piece_in_parts(self):
        """A reader that wants less than a piece gets it in parts."""
        backend = ReplayTransport(Recording("GET", "/", [], b"", [Piece(0.0, b"abc")]))._pool._network_backend
        stream = backend.connect_tcp("h", 1)
        stream.write(b"x")
        assert [stream.read(2), stream.read(2)] == [b"ab", b"c"]
        with pytest.raises(httpcore.ReadTimeout):
            stream.read(2)

    def test_every_request_gets_it(self):
        """Two requests on one connection, encrypted or not, get the same answer."""
        [answer] = plain_response(b"{}")
        with httpx.Client(
            transport=ReplayTransport(Recording("GET", "/", [], b"", [Piece(0.0, answer.data)]))
        ) as client:
            for url in ("http://h/a", "http://h/b", "https://h/c"):
                assert client.get(url).json() == {}

    def test_timed_replay_keeps_times_and_timeouts(self):
        """A timed replay keeps the times, and a client's timeout."""
        [answer] = plain_response(b"{}")
        recording = Recording("GET", "/", [], b"", [Piece(0.0, answer.data[:9]), Piece(0.3, answer.data[9:])])
        with httpx.Client(transport=ReplayTransport(recording, timed=True)) as client:
            begun = time.monotonic()
            assert client.get("http://h/").json() == {}
            assert time.monotonic() - begun > 0.25
            with pytest.raises(httpx.ReadTimeout):
                client.get("http://h/", timeout=0.05)

    @pytest.mark.parametrize(
        "leave", [lambda stream: stream.close(), lambda stream: stream.get_extra_info("socket").shutdown(2)]
    )
    def test_close_from_another_thread_ends_the_replay(self, leave):
        """A read that waits ends when the connection is closed or shut down, as that of a socket."""
        pieces = [Piece(0.0, b"a"), Piece(60.0, b"b")]
        backend = ReplayTransport(Recording("GET", "/", [], b"", pieces), timed=True)._pool._network_backend
        stream = backend.connect_tcp("h", 1)
        stream.write(b"x")
        assert stream.read(9) == b"a"
        assert stream.get_extra_info("ssl_object") is None
        threading.Timer(0.1, leave, [stream]).start()
        assert stream.read(9) == b""
        assert stream.read(9) == b""


HEADERS = st.lists(st.tuples(st.from_regex(r"[A-Za-z-]{1,9}", fullmatch=True), st.text(max_size=9)), max_size=3)
BODIES = (
    st.binary(max_size=40)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    ).map(lambda value: json.dumps(value).encode())
    | st.dictionaries(st.text(), st.integers()).map(
        lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    )
)


@given(
    st.builds(
        Recording,
        method=st.text(max_size=9),
        target=st.text(max_size=9),
        headers=HEADERS,
        body=BODIES,
        pieces=st.lists(st.builds(Piece, st.floats(0, 1e6), st.binary(max_size=30)), max_size=4),
        ended=st.sampled_from([None, "closed", "reset", "deadline"]),
        is_redacted=st.booleans(),
    )
)
def test_saved_recording_is_loaded_unchanged(tmp_path_factory, recording):
    """What was saved is loaded to the byte."""
    path = tmp_path_factory.mktemp("capture") / "capture.json"
    recording.save(path)
    assert Recording.load(path) == recording


def test_other_spellings_of_json_are_loaded(tmp_path):
    """A body that JSON would not write the same way again is kept as text."""
    recording = Recording("POST", "/", [], b'{"a":  1}')
    recording.save(tmp_path / "capture.json")
    assert Recording.load(tmp_path / "capture.json") == recording


def test_file_can_be_read(tmp_path):
    """The file is JSON: a JSON body stands in it as such, and the answer as text."""
    body = b'{"model":"m","messages":[]}'
    path = tmp_path / "capture.json"
    Recording("POST", "/v1", [("Host", "h")], body, [Piece(0.5, b"HTTP/1.1 200 OK\r\n")]).save(path)
    told = json.loads(path.read_text(encoding="ascii"))
    assert told["request"]["body"]["json"] == {"model": "m", "messages": []}
    assert told["request"]["headers"] == ["Host: h"]
    assert told["response"]["pieces"] == [{"at": 0.5, "bytes": "HTTP/1.1 200 OK\r\n"}]
    assert {"shim", "openai", "httpx", "python", "platform", "date"} <= told["details"].keys()
    assert told["details"]["openai"] == openai.__version__


GOOD = {
    "format": FORMAT,
    "version": 1,
    "is_redacted": False,
    "details": {},
    "request": {"method": "GET", "target": "/", "headers": [], "body": {"bytes": ""}},
    "response": {"ended": None, "pieces": []},
}
DAMAGED = {
    "no request": {**GOOD, "request": None},
    "a member missing": {**GOOD, "response": {"pieces": []}},
    "another end": {**GOOD, "response": {"ended": "exploded", "pieces": []}},
    "no time": {**GOOD, "response": {"ended": None, "pieces": [{"at": -1, "bytes": ""}]}},
    "no bytes": {**GOOD, "response": {"ended": None, "pieces": [{"at": 0, "bytes": "\u3042"}]}},
    "no text": {**GOOD, "response": {"ended": None, "pieces": [{"at": 0, "bytes": 7}]}},
    "no header": {**GOOD, "request": {**GOOD["request"], "headers": ["Host"]}},
    "no details": {**GOOD, "details": []},
    "another spelling": {**GOOD, "request": {**GOOD["request"], "body": {"json": {}, "spelling": "loud"}}},
}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        *((json.dumps(content).encode(), "is damaged") for content in DAMAGED.values()),
        (json.dumps({**GOOD, "version": 2}).encode(), "version 2"),
        (json.dumps({**GOOD, "format": "har"}).encode(), "not a capture"),
        (b"[]", "not a capture"),
        (b"\xff\xfe", "not a capture"),
        (b"{", "not a capture"),
        (b"[" * 100_000, "not a capture"),
    ],
)
def test_files_that_are_refused(tmp_path, content, said):
    """A file that is not a capture, damaged, or of a later version is refused with a remedy."""
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ServiceError, match=said) as caught:
        Recording.load(path)
    assert caught.value.remedy


def test_missing_file_is_refused(tmp_path):
    """So is a file that is not there."""
    with pytest.raises(ServiceError, match=r"cannot be read: No such file"):
        Recording.load(tmp_path / "nothing")


def test_undamaged_file_is_a_capture(tmp_path):
    """The file that the damaged ones were made of is a capture."""
    path = tmp_path / "file"
    path.write_text(json.dumps(GOOD), encoding="ascii")
    assert Recording.load(path) == Recording("GET", "/", [], b"", details={})


def test_details_report_packages_that_are_not_installed(monkeypatch):
    """Details of what is not installed as a package say so."""
    monkeypatch.setattr("shim.capture.recording._PACKAGES", {"shim": "no-such-package-here"})
    assert Recording("GET", "/", [], b"").details["shim"] == "unknown"


@pytest.mark.parametrize("repaired", [True, False], ids=["repaired", "plain"])
def test_answer_that_is_compressed_twice_is_recorded_and_not_read(repaired):
    """A few kilobytes of it may become gigabytes in one step, in a capture that somebody has sent, too."""
    answer = plain_response(gzip.compress(gzip.compress(b"{}")), headers=[("Content-Encoding", "gzip, gzip")])
    recording, got = record(answer, repaired=repaired)
    assert b"gzip, gzip" in recording.answer
    assert got == replayed(recording, repaired=repaired) == [(openai.APIConnectionError, "Connection error.")]
