"""The raw path, and the fallback to it."""

import gzip

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionChunk

import shim
from support.raw_server import Close, RawServer, Reset, in_turn, plain_response, sse_response
from support.streams import DONE, betalgo, chunk, conforming, event, stream
from support.talk import FAMILIES, MESSAGES

PIECES = ("naïve ", "café 🌸", "\u2028 end")
TEXT = "".join(PIECES)
GOOD = conforming(PIECES)
ASK = {"model": "m", "messages": MESSAGES}


def text(chunks):
    return "".join(each.choices[0].delta.content or "" for each in chunks)


class TestRawPath:
    """`shim.raw.stream_chat`."""

    @pytest.mark.parametrize(
        "body",
        [
            [stream(GOOD)],
            [stream(GOOD).replace(b"\n", b"\r\n")],
            [stream(betalgo(PIECES))],
            [stream(GOOD).replace(b"\n\n", b"\n")],
            [stream(GOOD)[at : at + 1] for at in range(len(stream(GOOD)))],
        ],
        ids=["conforming", "CRLF", "1.x", "one newline", "byte by byte"],
    )
    def test_chunks_are_openais(self, body):
        """The chunks are openai's, with everything in its place, whatever the framing and the dialect."""
        with RawServer(sse_response(body)) as server:
            chunks = list(shim.raw.stream_chat(server.base_url, **ASK))
        assert text(chunks) == TEXT
        assert all(type(each) is ChatCompletionChunk for each in chunks)
        assert type(chunks[0].choices[0]).__name__ == "Choice"
        assert len({each.id for each in chunks}) == 1
        assert chunks[-1].choices[0].finish_reason == "stop"

    def test_request_arrives_as_asked(self):
        """What is asked for arrives: parameters, key, headers, query; arguments that are left out do not."""
        message = openai.types.chat.ChatCompletionMessage(role="assistant", content="before")
        with RawServer(sse_response([stream(GOOD)])) as server:
            list(
                shim.raw.stream_chat(
                    server.base_url + "/",
                    model="m",
                    messages=iter([message, *MESSAGES]),
                    api_key="secret",
                    temperature=0.5,
                    stop=openai.NOT_GIVEN,
                    extra_headers={"X-One": "1"},
                    extra_query={"q": "2"},
                    extra_body={"top_k": 3},
                )
            )
            [request] = server.requests
        assert request.path == "/v1/chat/completions?q=2"
        assert request.header("authorization") == "Bearer secret"
        assert request.header("x-one") == "1"
        body = request.json()
        assert body["messages"] == [{"role": "assistant", "content": "before"}, *MESSAGES]
        assert {name: value for name, value in body.items() if name != "messages"} == {
            "model": "m",
            "temperature": 0.5,
            "top_k": 3,
            "stream": True,
        }

    def test_numbers_arrive_as_asked(self):
        """Also where they have more than 64 bits, and as the names of fields."""
        parameters = {"seed": 2**64, "logit_bias": {50256: -100}}
        with RawServer(sse_response([stream(GOOD)])) as server:
            list(shim.raw.stream_chat(server.base_url, **ASK, **parameters))
            with shim.OpenAI(base_url=server.base_url) as client:
                client.chat.completions.create(**ASK, **parameters, stream=True).close()
        raw, official = (request.json() for request in server.requests)
        assert raw == official
        assert raw["seed"] == 2**64

    def test_message_that_is_not_json_is_an_error(self):
        """A message that cannot be sent is an error that names its type."""
        with pytest.raises(TypeError):
            list(shim.raw.stream_chat("http://127.0.0.1:9", model="m", messages=[object()]))

    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (400, openai.BadRequestError),
            (404, openai.NotFoundError),
            (429, openai.RateLimitError),
            (503, openai.InternalServerError),
            (418, openai.APIStatusError),
        ],
    )
    @pytest.mark.parametrize("body", [b'{"error":{"message":"because","code":"c"}}', b"because", b'["because"]'])
    def test_refusal_is_openais_exception(self, status, error, body):
        """A refusal is openai's exception for the status, with the service's words."""
        with RawServer(plain_response(body, status)) as server, pytest.raises(error) as caught:
            list(shim.raw.stream_chat(server.base_url, **ASK))
        assert type(caught.value) is error
        assert caught.value.status_code == status
        assert "because" in str(caught.value)

    def test_error_event_is_raised_after_the_text(self):
        """An error in the stream is an APIError with its members, behind what came before it."""
        failure = event({"error": {"message": "no", "type": "server_error", "code": "c"}})
        with RawServer(sse_response([event(GOOD[0]), event(GOOD[1]), failure])) as server:
            chunks = shim.raw.stream_chat(server.base_url, **ASK)
            assert text([next(chunks), next(chunks)]) == PIECES[0]
            with pytest.raises(openai.APIError, match="no") as caught:
                next(chunks)
        assert caught.value.code == "c"

    def test_error_event_of_plain_text_is_raised(self):
        """An error that is no object is told all the same."""
        with (
            RawServer(sse_response([event({"error": "broken"})])) as server,
            pytest.raises(openai.APIError, match="broken"),
        ):
            list(shim.raw.stream_chat(server.base_url, **ASK))

    @pytest.mark.parametrize("off", [frozenset(), frozenset(shim.Repair)], ids=["repaired", "unrepaired"])
    @pytest.mark.parametrize("data", [b"{", b"[1]", b"5", b'"x"', b"true"])
    def test_event_that_is_not_an_object_is_an_error(self, data, off):
        """What preceded it was yielded."""
        policy = shim.Policy(off=off)
        with RawServer(sse_response([event(GOOD[0]), event(GOOD[1]), b"data: %b\n\n" % data])) as server:
            chunks = shim.raw.stream_chat(server.base_url, policy=policy, **ASK)
            assert text([next(chunks), next(chunks)]) == PIECES[0]
            with pytest.raises(openai.APIError):
                next(chunks)

    @pytest.mark.parametrize("data", [b"null", b"[]", b"{}", b'""'])
    def test_event_that_says_nothing_is_passed_over(self, data):
        """It is a keep-alive."""
        body = [event(GOOD[0]), b"data: %b\n\n" % data, *map(event, GOOD[1:]), DONE]
        with RawServer(sse_response(body)) as server:
            assert text(shim.raw.stream_chat(server.base_url, **ASK)) == "".join(PIECES)

    def test_event_that_is_not_utf8_is_an_error_without_the_repair(self):
        """It is openai's, whatever the policy allows."""
        broken = b'data: {"choices": [{"index": 0, "delta": {"content": "\xff"}}]}\n\n'
        with RawServer(sse_response([broken, DONE])) as server, pytest.raises(openai.APIError, match="not UTF-8"):
            list(shim.raw.stream_chat(server.base_url, **ASK, policy=shim.Policy(off=frozenset(shim.Repair))))

    def test_unfinished_stream_is_an_error(self):
        """An unfinished stream is an error here, too."""
        with RawServer(sse_response([event(GOOD[0])])) as server, pytest.raises(openai.APIError) as caught:
            list(shim.raw.stream_chat(server.base_url, **ASK))
        assert caught.value.code == "stream_truncated"

    @pytest.mark.parametrize("end", ["cut", "reset"])
    def test_broken_connection_is_raised_after_the_text(self, end):
        """A broken connection is openai's connection error, behind all that came whole."""
        events = [event(GOOD[0]), event(GOOD[1]).removesuffix(b"\n")]
        with RawServer(sse_response(events, end=end, gap=0.05)) as server:
            chunks = shim.raw.stream_chat(server.base_url, **ASK)
            got = [next(chunks)]
            with pytest.raises(openai.APIConnectionError) as caught:
                got.extend(chunks)
        if end == "cut":
            assert text(got) == PIECES[0]
        assert caught.value.__cause__ is not None

    def test_refused_connection_is_openais_exception(self):
        """A refused connection is openai's connection error with the reason in it."""
        with RawServer([Close()]) as server:
            base_url = server.base_url
        with pytest.raises(openai.APIConnectionError, match=r"refused|connect"):
            list(shim.raw.stream_chat(base_url, **ASK))

    def test_silence_is_openais_timeout(self):
        """Silence longer than the timeout is openai's timeout error."""
        with (
            RawServer(sse_response([event(GOOD[0])], end="held")) as server,
            pytest.raises(openai.APITimeoutError),
        ):
            list(shim.raw.stream_chat(server.base_url, **ASK, timeout=0.1))

    @pytest.mark.parametrize("end", ["held", "terminated"])
    def test_connection_is_closed(self, end):
        """Reading to the end and leaving early both close the connection."""
        with RawServer(sse_response([*map(event, GOOD), DONE], end=end)) as server:
            assert text(shim.raw.stream_chat(server.base_url, **ASK)) == TEXT
            server.wait_until_no_connection_is_open(5)
            chunks = shim.raw.stream_chat(server.base_url, **ASK)
            next(chunks)
            chunks.close()
            server.wait_until_no_connection_is_open(5)

    @pytest.mark.parametrize("family", FAMILIES)
    def test_uses_an_own_http_client(self, family):
        """A client of either library is used and left open."""
        with RawServer(sse_response([stream(betalgo(PIECES))])) as server, FAMILIES[family].Client() as own:
            assert text(shim.raw.stream_chat(server.base_url, **ASK, http_client=own)) == TEXT
            assert not own.is_closed

    def test_compressed_stream_is_read(self):
        """A compressed stream is read, too."""
        headers = [("Content-Type", "text/event-stream"), ("Content-Encoding", "gzip")]
        with RawServer(sse_response([gzip.compress(stream(GOOD))], headers=headers)) as server:
            assert text(shim.raw.stream_chat(server.base_url, **ASK)) == TEXT

    def test_damaged_compression_is_a_connection_error(self):
        """A compressed stream that cannot be unpacked is openai's connection error."""
        headers = [("Content-Type", "text/event-stream"), ("Content-Encoding", "gzip")]
        with RawServer(sse_response([b"no gzip"], headers=headers)) as server, pytest.raises(openai.APIConnectionError):
            list(shim.raw.stream_chat(server.base_url, **ASK))

    def test_other_error_of_the_http_client_is_raised_unchanged(self):
        """What is neither a connection's nor the service's failure is raised as it is."""

        def broken(_request):
            raise KeyError

        with httpx.Client(transport=httpx.MockTransport(broken)) as own, pytest.raises(KeyError):
            list(shim.raw.stream_chat("http://x/v1", **ASK, http_client=own))

    def test_event_in_many_pieces_is_one_chunk(self):
        """A large event in small pieces arrives whole (sseclient-py alone needs quadratic time for it)."""
        long = "x" * 200_000
        body = stream([chunk({"role": "assistant", "content": long}), chunk({}, "stop")])
        with RawServer(sse_response([body[at : at + 512] for at in range(0, len(body), 512)])) as server:
            assert text(shim.raw.stream_chat(server.base_url, **ASK)) == long


def plain_client(server, **options):
    return openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0, **options)


class TestFallback:
    """`shim.stream_chat`: the client first, the raw path where only the decoder is at fault."""

    def test_a_client_that_can_is_used(self):
        """A stream that the client reads is the client's, and the service is asked once."""
        with RawServer(sse_response([stream(GOOD)])) as server, shim.OpenAI(base_url=server.base_url) as client:
            assert text(shim.stream_chat(client, **ASK)) == TEXT
            assert len(server.requests) == 1
            assert server.requests[0].header("x-stainless-lang") == "python"

    @pytest.mark.parametrize(
        "broken",
        [
            [stream(GOOD).replace(b"\n\n", b"\n")],
            [b"data:\n\n" + stream(GOOD)],
            [stream(GOOD).replace(b"data:", b"data: data:")],
        ],
        ids=["nothing found", "empty event", "decoder fails"],
    )
    def test_raw_path_is_used_where_the_client_fails(self, broken, caplog):
        """A plain official client that finds nothing, or fails to decode, is replaced; the text comes once."""
        with RawServer(sse_response(broken)) as server, plain_client(server, default_headers={"X-Own": "1"}) as client:
            assert text(shim.stream_chat(client, **ASK, temperature=1)) == TEXT
            first, second = server.requests
        assert second.json() == first.json()
        assert second.header("x-own") == "1"
        assert second.header("authorization") == "Bearer k"
        assert "raw path" in caplog.text

    def test_nothing_is_said_twice(self):
        """A failure after the first chunk is raised: the service is not asked again."""
        body = [event(GOOD[0]), event(GOOD[1]), b"data: {broken\n\n", DONE]
        with RawServer(sse_response(body)) as server, plain_client(server) as client:
            chunks = shim.stream_chat(client, **ASK)
            assert text([next(chunks), next(chunks)]) == PIECES[0]
            with pytest.raises(ValueError, match=r".+"):
                next(chunks)
            assert len(server.requests) == 1

    def test_errors_are_not_hidden(self):
        """What the service answers, and a broken connection, are raised at once and not asked for again."""
        failure = event({"error": {"message": "no"}})
        for script, error in [
            (plain_response(b"{}", 400), openai.BadRequestError),
            (sse_response([failure]), openai.APIError),
            ([Reset()], openai.APIConnectionError),
        ]:
            with RawServer(script) as server, plain_client(server) as client:
                with pytest.raises(error):
                    list(shim.stream_chat(client, **ASK))
                assert len(server.requests) == 1

    def test_error_of_the_raw_path_is_raised_where_both_fail(self):
        """Where the raw path finds nothing either, its error is raised."""
        with RawServer(sse_response([])) as server, plain_client(server) as client:
            with pytest.raises(openai.APIError) as caught:
                list(shim.stream_chat(client, **ASK))
        assert caught.value.code == "empty_stream"

    def test_settings_of_the_client_are_kept(self):
        """The raw path goes out through the client's own HTTP client, with its timeout and the request's headers."""
        once = in_turn(sse_response([]), sse_response([event(GOOD[0])], end="held"))
        with RawServer(once) as server, plain_client(server, timeout=0.2) as client:
            chunks = shim.stream_chat(client, **ASK, extra_headers={"X-Two": "2"})
            next(chunks)
            with pytest.raises(openai.APITimeoutError):
                next(chunks)
            assert server.requests[1].header("x-two") == "2"
            assert server.connections == 1

    def test_asynchronous_client_is_refused(self):
        """An asynchronous client is refused in one sentence."""
        client = openai.AsyncOpenAI(base_url="http://x", api_key="k")
        with pytest.raises(TypeError, match="synchronous client"):
            next(shim.stream_chat(client, **ASK))

    def test_leaving_early_closes_the_stream(self):
        """Leaving early closes the stream, on either path."""
        with (
            RawServer(sse_response([*map(event, GOOD)], end="held")) as server,
            shim.OpenAI(base_url=server.base_url) as client,
        ):
            chunks = shim.stream_chat(client, **ASK)
            next(chunks)
            chunks.close()
            server.wait_for_close(5)


def test_family_of_the_raw_path_is_a_dependency():
    """httpx is always there, also where openai does without it."""
    assert httpx.__version__
