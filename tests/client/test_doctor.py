"""The doctor, on services that are all right, that fail in every way, and that are something else."""

import json
import time

import pytest

import shim
from shim import doctor
from shim.capture.recording import Piece, Recording
from shim.doctor import Diagnosis, as_markdown, diagnose, diagnose_recording
from shim.doctor.examination import PROBES
from shim.doctor.probes import REPLAYED
from shim.errors import ServiceError
from shim.repairs import Repair
from support.openai_server import MODEL, TEXT, chunks, error, json_response, model_object, openai_server, whole
from support.raw_server import Close, Hold, RawServer, Send, Sleep, plain_response, response_head, sse_response
from support.streams import betalgo, chunk, stream

FIELDS = ["n", "logprobs", "stop", "json_object", "json_schema", "strict", "images", "tool_results"]
PAGE = b"<!doctype html><title>Router &amp; more</title>"


def found(diagnosis):
    return {finding.probe: finding for finding in diagnosis.findings}


def codes(problems):
    return [problem.code for problem in problems]


def streamed(answer):
    """A service whose streams are another answer."""
    return lambda body, _request: answer if body.get("stream") and body["model"] == MODEL else None


@pytest.fixture(scope="module")
def examined():
    """A conforming service, and what it was asked."""
    with openai_server() as server:
        return diagnose(server.base_url), server.requests


class TestConformingService:
    """A service that does what OpenAI does."""

    def test_nothing_is_found(self, examined):
        """No deviation, no problem, no generation of Foundry Local."""
        diagnosis, _ = examined
        assert [(finding.probe, finding.verdict) for finding in diagnosis.findings] == [(name, "ok") for name in PROBES]
        assert not diagnosis.deviations
        assert not diagnosis.all_problems
        assert diagnosis.is_usable
        assert diagnosis.generation is None
        assert diagnosis.model == MODEL

    def test_both_sides_see_the_same(self, examined):
        """Each probe says what a program sees, the same with the shim and without."""
        findings = found(examined[0])
        assert findings["plain"].with_shim == "text, finish reason stop"
        assert findings["stream"].with_shim == "text in 3 chunks, finish reason stop"
        assert findings["tools"].with_shim == "1 tool call, finish reason tool_calls"
        assert findings["usage"].with_shim == "text in 3 chunks, finish reason stop, usage once, at the end"
        assert findings["bad parameter"].with_shim.startswith("BadRequestError 400: Invalid 'temperature'")
        assert findings["unknown model"].with_shim.startswith("NotFoundError 404: ")
        assert findings["too many tokens"].with_shim == "BadRequestError 400: max_tokens is too large"
        assert findings["keep-alive"].with_shim == "the connection is reused"
        assert [name for name in REPLAYED if findings[name].without_shim != findings[name].with_shim] == []
        assert findings["stream"].received == "200 text/event-stream, 5 events, [DONE]"
        assert findings["plain"].received == "200 application/json"

    def test_costs_fewer_than_200_tokens(self, examined):
        """No request is made twice, and none that is known to crash a release."""
        asked = [request.json() for request in examined[1] if request.path.endswith("/chat/completions")]
        granted = [body for body in asked if body["model"] == MODEL and body["max_tokens"] < 1000]
        assert sum(body["max_tokens"] for body in granted) < 200
        assert len(asked) == len(REPLAYED) + 3 + 12  # for the cancelled stream, the connection, and the request fields
        assert not [request for request in examined[1] if "embeddings" in request.path]

    def test_timing_is_measured(self, examined):
        """The stream's timing: the first text, and the gaps between the texts."""
        timing = found(examined[0])["stream"].timing
        assert timing.first > 0
        assert len(timing.gaps) == len(TEXT) - 1

    def test_data_can_be_written_as_json(self, examined):
        """The same as data that JSON takes."""
        data = json.loads(json.dumps(examined[0].as_data()))
        assert data["is_usable"] is True
        assert [each["verdict"] for each in data["findings"]] == ["ok"] * len(PROBES)

    def test_report_lists_no_deviation(self, examined):
        """The report names the probes, and no deviation."""
        text = as_markdown(examined[0])
        assert "| stream | 200 text/event-stream, 5 events, [DONE] | text in 3 chunks, finish reason stop |" in text
        assert "Deviations from" not in text


class TestDeviatingService:
    """A service whose streams are those of an old release."""

    def test_each_side_is_shown(self):
        """What the client makes of it without the shim, and with it."""
        old = [
            {name: value for name, value in each.items() if name != "usage"} for each in betalgo(("secret", " word"))
        ]
        with openai_server(streamed(sse_response([stream([*old, {**old[-1], "choices": [], "usage": {}}])]))) as server:
            diagnosis = diagnose(server.base_url)
        finding = found(diagnosis)["stream"]
        assert finding.verdict == "repaired"
        assert finding.without_shim == "text in 2 chunks, finish reason stop, then IndexError: list index out of range"
        assert diagnosis.generation == "0.8 to 0.10"
        assert Repair.ID.value in diagnosis.deviations

    def test_samples_hold_no_text(self):
        """A sample is the event in which the repair was first needed, with an x for each letter of the answer."""
        with openai_server(streamed(sse_response([stream(betalgo(("Secret", " word")))]))) as server:
            diagnosis = diagnose(server.base_url, prompt="A private question")
        role = next(each for each in found(diagnosis)["stream"].deviations if each.code == "role")
        sample = json.loads(role.sample)
        assert sample["choices"][0]["delta"] == {"role": "assistant", "content": " xxxx", "tool_calls": []}
        text = as_markdown(diagnosis) + json.dumps(diagnosis.as_data())
        assert "ecret" not in text
        assert "rivate" not in text
        assert "| role |" in as_markdown(diagnosis)
        assert "https://github.com/microsoft/foundry-local/issues/144" in as_markdown(diagnosis)

    def test_own_prompt_is_sent(self):
        """`prompt` is what every probe asks."""
        with openai_server() as server:
            diagnose(server.base_url, prompt="My question")
            asked = [request.json() for request in server.requests if request.path.endswith("completions")]
        sent = [body["messages"][0]["content"] for body in asked]
        assert {text if isinstance(text, str) else text[0]["text"] for text in sent} == {"My question"}

    def test_lesser_findings_are_noted(self):
        """Neither deviation nor failure: parameters and models that are taken, usage and calls that never come."""
        with openai_server(
            lambda body, _: sse_response([stream(chunks({"model": "m"}))]) if body.get("stream") else None
        ) as server:
            diagnosis = diagnose(server.base_url)
        assert codes(diagnosis.all_problems) == [
            "no-tool-call",
            "no-usage",
            "parameter-ignored",
            "unknown-model-answered",
        ]
        assert found(diagnosis)["usage"].verdict == "note"
        assert found(diagnosis)["too many tokens"].with_shim == "granted"
        assert diagnosis.is_usable

    def test_calls_that_are_not_json_are_shown(self):
        """Arguments that cannot be decoded are reported, not repaired."""
        call = {"index": 0, "id": "c", "type": "function", "function": {"name": "get_weather", "arguments": "{oops"}}
        bad = sse_response([stream([chunk({"role": "assistant", "tool_calls": [call]}), chunk({}, "tool_calls")])])
        with openai_server(lambda body, _: bad if "tools" in body else None) as server:
            diagnosis = diagnose(server.base_url)
        assert codes(diagnosis.all_problems) == ["bad-tool-arguments"]

    def test_closed_connection_is_shown(self):
        """A service that closes the connection after each stream."""
        answers = sse_response([stream(chunks({"model": MODEL}))], end="close")
        with openai_server(streamed(answers)) as server:
            assert "connection-not-kept" in codes(found(diagnose(server.base_url))["keep-alive"].problems)


class TestRequestFields:
    """Which fields of a request the service honours."""

    def fields(self, chat):
        with openai_server(chat) as server:
            diagnosis = diagnose(server.base_url)
        return found(diagnosis)["request fields"], diagnosis

    def test_honoured_fields_are_no_problem(self, examined):
        """OpenAI honours them all."""
        finding = found(examined[0])["request fields"]
        assert finding.fields == dict.fromkeys(FIELDS, "honoured")
        assert finding.with_shim == f"honoured: {', '.join(FIELDS)}"

    def test_ignored_fields_are_a_note_that_names_them(self):
        """A Foundry Local that answers as if nothing had been asked."""

        def ignore(body, _):
            if body.get("stream") or body["model"] != MODEL:
                return None
            kept = {name: value for name, value in body.items() if name in ("model", "messages")}
            answer = {**whole({**kept, "messages": []}), "CreatedAt": "2026-01-01T00:00:00Z", "IsDelta": False}
            if "tools" in body:
                call = {"name": "get_weather", "arguments": '{"city": "Paris"}'}
                answer["choices"][0] |= {"finish_reason": "tool_calls"}
                answer["choices"][0]["message"]["tool_calls"] = [{"id": "c", "type": "function", "function": call}]
            return json_response(answer)

        finding, diagnosis = self.fields(ignore)
        assert finding.fields == dict.fromkeys(FIELDS, "ignored")
        [problem] = finding.problems
        assert (problem.code, finding.verdict) == ("request-ignored", "note")
        assert problem.message == (
            "The service silently ignores images, json_object, json_schema, logprobs, n, stop, strict, tool_results "
            "of a request."
        )
        assert diagnosis.is_usable
        assert "request-ignored" not in diagnosis.deviations

    def test_image_that_is_written_into_the_prompt_is_ignored(self):
        """Its tokens grow with the bytes of its data, not with its pixels."""

        def write(body, _):
            answer = whole(body)
            answer["usage"]["prompt_tokens"] = len(json.dumps(body["messages"]))
            return None if body.get("stream") else json_response(answer)

        assert self.fields(write)[0].fields["images"] == "ignored"

    def test_refused_fields_are_no_problem(self):
        """An error is a clear answer."""
        finding, _ = self.fields(lambda body, _: error(400, "no") if "logprobs" in body else None)
        assert finding.fields == {**dict.fromkeys(FIELDS, "honoured"), "logprobs": "refused"}
        assert not finding.problems

    def test_slow_answers_leave_the_rest_unknown(self):
        """Many answers in a row may take longer than the deadline; the service is not to blame."""
        with openai_server(lambda body, _: [Hold()] if "logprobs" in body else None) as server:
            finding = found(diagnose(server.base_url, deadline=1.0))["request fields"]
        assert finding.fields == {"n": "honoured", **dict.fromkeys(FIELDS[1:], "unknown")}
        assert finding.verdict == "ok"

    def test_crash_is_a_problem(self):
        """A service that does not survive an image."""
        finding, diagnosis = self.fields(lambda body, _: [Close()] if "image_url" in str(body) else None)
        assert codes(finding.problems) == ["connection-cut"]
        assert not diagnosis.is_usable


class TestModelWithoutTools:
    """2.x refuses tools for a model that has no markers for calls."""

    MESSAGE = "structured tool calling requires model-published opening and closing tool markers"

    def test_limit_of_the_model_is_a_note(self):
        """It is the model's limit: nothing failed."""
        refusal = error(500, self.MESSAGE)
        with openai_server(lambda body, _: refusal if "tools" in body else None) as server:
            diagnosis = diagnose(server.base_url)
        assert codes(found(diagnosis)["tools"].problems) == ["no-tool-support"]
        assert found(diagnosis)["request fields"].fields["strict"] == "unknown"
        assert diagnosis.is_usable


class TestFailingService:
    """Whatever a service does, the doctor ends in time, with a code and a remedy."""

    def examined(self, script, seconds=1.0, **options):
        started = time.monotonic()
        with script if isinstance(script, RawServer) else RawServer(script) as server:
            diagnosis = diagnose(options.pop("base_url", server.base_url), deadline=seconds, **options)
        assert all(problem.remedy for problem in diagnosis.all_problems)
        return diagnosis, time.monotonic() - started

    def test_refused_connection_is_reported(self):
        """An address where nothing runs."""
        with RawServer([Hold()]) as server:
            gone = server.base_url
        diagnosis, _ = self.examined([Hold()], base_url=gone)
        assert codes(diagnosis.problems) == ["no-service"]
        assert gone.removesuffix("/v1") in diagnosis.problems[0].message
        assert not diagnosis.findings

    @pytest.mark.parametrize(
        "script",
        [[Hold()], [Send(b"HTTP/1.1 200 OK\r\n"), *[Send(b"X-Drip: 1\r\n"), Sleep(0.2)] * 100]],
        ids=["silent", "drips"],
    )
    def test_hanging_service_is_reported(self, script):
        """One that accepts and says nothing, and one that says a little again and again."""
        diagnosis, seconds = self.examined(script)
        assert codes(diagnosis.problems) == ["service-hangs"]
        assert seconds < 15

    @pytest.mark.parametrize("script", [[Close()], [Send(b"SSH-2.0-OpenSSH_9\r\n"), Close()]], ids=["cut", "ssh"])
    def test_other_protocol_is_reported(self, script):
        """One that breaks off, and one that speaks another protocol."""
        assert codes(self.examined(script)[0].problems) == ["no-http"]

    @pytest.mark.parametrize(
        ("script", "told"),
        [
            (plain_response(PAGE, headers=[("Content-Type", "text/html")]), "a web page (Router & more)"),
            (plain_response(PAGE, status=404), "status 404 and a web page"),
            (plain_response(b"<p>hi</p>"), "status 200 and a web page"),
            (plain_response(b"<title" * 150_000), "status 200 and a web page"),
            (plain_response(b'{"hello": 1}'), "no list of models"),
            (plain_response(b"[" * 5000), "no list of models"),
        ],
        ids=["page", "404", "untitled", "many openings", "json", "deep"],
    )
    def test_other_server_is_reported(self, script, told):
        """A web page, or any other service."""
        [problem] = self.examined(script)[0].problems
        assert problem.code == "not-foundry-local"
        assert told in problem.message

    def test_endless_page_is_not_read_to_its_end(self):
        """A page without an end is not read to it."""

        def endless(connection, _):
            connection.send(response_head(headers=[("Content-Type", "text/html")]))
            while True:
                connection.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")

        diagnosis, seconds = self.examined(endless, 3.0)
        assert codes(diagnosis.problems) == ["not-foundry-local"]
        assert seconds < 60

    def test_invalid_address_is_reported(self):
        """What is no address at all."""
        assert codes(diagnose("http://[::1").problems) == ["bad-address"]

    @pytest.mark.parametrize(
        ("answer", "code"),
        [
            ([Hold()], "deadline"),
            (sse_response([stream([chunk({"content": "x"})] * 500, done=b"")], gap=0.0, end="held"), "deadline"),
            (sse_response([stream(chunks({"model": "m"})[:2], done=b"")], end="cut"), "connection-cut"),
            (sse_response([stream(chunks({"model": "m"})[:2], done=b"")], end="reset"), "connection-cut"),
            (sse_response([stream(chunks({"model": "m"})[:2], done=b"")]), "stream-truncated"),
            (plain_response(b'{"error": {"message": "out of memory"}}', status=500), "refused"),
        ],
        ids=["hangs", "stops", "cut", "reset", "truncated", "refuses"],
    )
    def test_failing_streams_are_told_from_plain_answers(self, answer, code):
        """Plain answers come, and streams fail, each in its own way."""
        diagnosis, seconds = self.examined(openai_server(streamed(answer)))
        assert found(diagnosis)["plain"].verdict == "ok"
        finding = found(diagnosis)["stream"]
        assert (finding.verdict, codes(finding.problems)) == ("failed", [code])
        assert not diagnosis.is_usable
        assert seconds < 60

    @pytest.mark.parametrize("probe", ["bad parameter", "unknown model", "too many tokens"])
    def test_refusals_that_are_success_are_reported(self, probe):
        """What has to be refused with words, and breaks off instead, is wrong."""
        is_meant = {
            "bad parameter": lambda body: "temperature" in body,
            "unknown model": lambda body: body["model"] != MODEL,
            "too many tokens": lambda body: body["max_tokens"] > 1000,
        }[probe]
        cut = sse_response([stream(chunks({"model": "m"})[:1], done=b"")], end="cut")
        diagnosis, _ = self.examined(openai_server(lambda body, _: cut if is_meant(body) else None))
        assert codes(diagnosis.all_problems) == ["connection-cut"]
        assert found(diagnosis)[probe].verdict == "failed"

    def test_granted_limit_of_tokens_is_left_at_once(self):
        """The stream is left at once: its many tokens are not waited for."""
        begun = sse_response([stream(chunks({"model": "m"})[:3], done=b"")], end="held")
        with openai_server(lambda body, _: begun if body["max_tokens"] > 1000 else None) as server:
            diagnosis = diagnose(server.base_url, deadline=2.0)
        finding = found(diagnosis)["too many tokens"]
        assert (finding.with_shim, finding.verdict) == ("granted", "ok")

    def test_two_late_answers_are_enough(self):
        """Where two probes in a row are late, the others are not made."""
        diagnosis, _ = self.examined(openai_server(lambda *_: [Hold()]))
        late = [finding for finding in diagnosis.findings if "deadline" in codes(finding.problems)]
        assert [finding.probe for finding in late] == ["plain", "stream"]
        assert {finding.verdict for finding in diagnosis.findings[2:]} == {"skipped"}
        assert "2 probes in a row" in diagnosis.findings[2].skipped
        assert found(diagnosis)["stream"].received == "silence"

    def test_service_that_dies_is_reported(self):
        """A service that goes at the second probe."""

        def chat(body, _request):
            if body.get("stream"):
                server._listener.close()
                return [Close()]
            return None

        server = openai_server(chat)
        diagnosis, _ = self.examined(server)
        assert codes(found(diagnosis)["stream"].problems) == ["connection-cut"]
        assert codes(found(diagnosis)[".stream()"].problems) == ["service-gone"]
        assert found(diagnosis)["tools"].skipped == "the service has stopped"

    def test_service_that_does_not_come_back_is_reported(self):
        """A service that answers no more once a stream was left."""
        busy = []

        def chat(body, request):
            if busy or (body.get("max_tokens") == 1 and not body.get("stream")):
                busy.append(True)
                return [Hold()]
            return None

        diagnosis, _ = self.examined(openai_server(chat))
        assert codes(found(diagnosis)["disconnect"].problems) == ["deadline"]

    def test_prompt_that_cannot_be_sent_is_reported(self):
        """What never leaves is told as the client's own failure."""
        diagnosis, _ = self.examined(openai_server(), prompt="caf\udcff")
        assert codes(found(diagnosis)["plain"].problems) == ["client-error"]
        assert found(diagnosis)["plain"].received == ""
        assert "UnicodeEncodeError" in found(diagnosis)["plain"].with_shim


class TestModels:
    """Which model is asked."""

    def asked(self, ids, loaded=None, **options):
        pages = {"v1_models": json.dumps({"object": "list", "data": [model_object(name) for name in ids]}).encode()}
        if loaded is not None:
            pages["models_loaded"] = json.dumps(loaded).encode()
        with openai_server(**pages) as server:
            return diagnose(server.base_url, **options)

    def test_loaded_model_is_examined(self):
        """The loaded one of many."""
        assert self.asked(["a:1", MODEL, "b:1"], [MODEL]).model == MODEL

    def test_alias_chooses_the_model(self):
        """The one that an alias names."""
        assert self.asked(["a:1", MODEL], [], model="scripted").model == MODEL

    def test_named_model_that_is_not_listed_is_a_problem_that_names_the_candidates(self):
        """The most similar ones of many; all are named where they are few."""
        [problem] = self.asked(["a:1", "b:1"], [], model="mine").problems
        assert (problem.code, problem.is_fatal) == ("unknown-model", True)
        assert problem.remedy == "Name one of its models with --model: a:1, b:1."
        [problem] = self.asked([*(f"a-{n}:1" for n in range(20)), "phi-4-mini:1"], [], model="phi4-mini").problems
        assert problem.remedy == (
            "Name one of its models with --model: phi-4-mini:1 … (21 in all: foundry-shim models)."
        )

    def test_name_of_several_models_is_a_problem_that_names_them(self):
        """An alias that stands for two variants."""
        names = ["phi-4-mini-instruct-generic-cpu:4", "phi-4-mini-instruct-cuda-gpu:4"]
        [problem] = self.asked(names, [], model="phi-4-mini").problems
        assert problem.code == "ambiguous-model"
        assert problem.remedy == f"Name one of them with --model: {names[1]}, {names[0]}."

    def test_named_model_of_an_empty_list_is_tried(self):
        """A service that lists nothing may have it all the same."""
        assert self.asked([], [], model="mine").model == "mine"

    def test_nothing_loaded_means_no_probe(self):
        """Several, and none is loaded: no probe is made."""
        diagnosis = self.asked(["a:1", "b:1"], [])
        assert codes(diagnosis.problems) == ["no-model-loaded"]
        assert "a:1, b:1" in diagnosis.problems[0].message
        assert not diagnosis.findings

    def test_first_model_is_examined_where_loaded_ones_are_unknown(self):
        """The first one, where a service does not tell."""
        assert self.asked([MODEL, "b:1"]).model == MODEL

    def test_service_without_models_is_reported(self):
        """A service without models."""
        assert codes(self.asked([], []).problems) == ["no-models"]


class TestGenerations:
    """The generation is told by addresses that only it has; the live releases are in tests/live."""

    def generation(self, **pages):
        with openai_server(**pages) as server:
            diagnosis = diagnose(server.base_url)
        return diagnosis.generation, diagnosis

    def test_status_endpoint_means_0_x(self):
        """`/openai/status` is there from 0.3 to 0.8."""
        assert self.generation(openai_status=b'{"Endpoints": [], "ModelDirPath": "x"}')[0] == "0.3 to 0.8"

    def test_fields_of_the_list_tell_the_generation(self):
        """A list of models with foreign members and nothing else to tell by."""
        listing = {"data": [model_object()], "object": "list", "IsDelta": False}
        assert self.generation(v1_models=json.dumps(listing).encode())[0] == "0.x or 1.x"

    def test_local_catalog_is_examined_instead(self):
        """2.1 and later with models of one's own: the other address is used, and said."""
        local = json.dumps({"data": [model_object()], "object": "list"}).encode()
        pages = {"v1_models": b'{"data": []}', "catalogs_local_v1_models": local, "status": b'{"modelCachePath": "x"}'}
        generation, diagnosis = self.generation(**pages)
        assert generation == "2.1 to 2.2"
        assert diagnosis.base_url.endswith("/catalogs/local/v1")
        assert codes(diagnosis.problems) == ["other-address"]
        assert diagnosis.is_usable

    def test_foundry_local_without_a_list_is_recognized(self):
        """Foundry Local that cannot list its models is not taken for something else."""
        pages = {"v1_models": b'"out of order"', "status": b'{"modelDirPath": "x"}', "v1_models_no-such-model": b'"no"'}
        generation, diagnosis = self.generation(**pages)
        assert (generation, codes(diagnosis.problems)) == ("1.0", ["no-model-list"])


class TestFinding:
    """Without an address a running service is looked for."""

    def test_variable_names_the_service(self, monkeypatch):
        """The variable names it."""
        with openai_server() as server:
            monkeypatch.setenv("FOUNDRY_LOCAL_ENDPOINT", server.base_url)
            assert diagnose().base_url == server.base_url

    def test_daemon_file_names_the_service(self, monkeypatch, tmp_path):
        """The first address of the daemon's file at which there is a service."""
        monkeypatch.delenv("FOUNDRY_LOCAL_ENDPOINT", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        monkeypatch.setenv("PATH", "")
        assert codes(diagnose().problems) == ["no-service"]
        with RawServer([Hold()]) as closed:
            gone = closed.base_url
        (tmp_path / ".foundry").mkdir()
        with openai_server() as server:
            (tmp_path / ".foundry" / "daemon.json").write_text(json.dumps({"web_urls": [gone, server.base_url]}))
            assert diagnose().base_url == server.base_url


class TestRecording:
    """A recorded answer is examined as if it came now."""

    def recording(self, body, script_pieces, target="/v1/chat/completions"):
        pieces = [Piece(0.1 * (1 + number), data) for number, data in enumerate(script_pieces)]
        return Recording("POST", target, [], json.dumps(body).encode(), pieces)

    def sent(self, steps):
        return [step.data for step in steps if isinstance(step, Send)]

    def test_stream_is_examined(self):
        """Deviations, both sides, and the timing of the recording."""
        body = {"model": "m", "messages": [], "stream": True, "stream_options": {"include_usage": True}}
        events = [stream([each], done=b"") for each in betalgo()]
        diagnosis = diagnose_recording(self.recording(body, self.sent(sse_response([*events, b"data: [DONE]\n\n"]))))
        [finding] = diagnosis.findings
        assert finding.verdict == "repaired"
        assert (diagnosis.generation, diagnosis.model) == ("1.x", "m")
        assert [round(gap, 3) for gap in finding.timing.gaps] == [0.1, 0.1]
        assert round(finding.timing.first, 3) == 0.2

    def test_plain_completion_is_examined(self):
        """A plain completion."""
        body = {"model": MODEL, "messages": []}
        with openai_server() as server:
            with shim.http_client() as http:
                content = http.post(f"{server.base_url}/chat/completions", json=body).content
        diagnosis = diagnose_recording(self.recording(body, self.sent(plain_response(content))))
        assert diagnosis.findings[0].with_shim == "text, finish reason stop"

    def test_cut_recording_is_a_failure(self):
        """A recording that ends in the middle is a failure, not a crash."""
        body = {"model": "m", "messages": [], "stream": True}
        recording = self.recording(body, self.sent(sse_response([stream(betalgo()[:1], done=b"")]))[:-1])
        recording.ended = "closed"
        diagnosis = diagnose_recording(recording)
        assert codes(diagnosis.all_problems) == ["connection-cut"]
        assert diagnosis.findings[0].received == "200 text/event-stream, 1 event, connection cut"

    @pytest.mark.parametrize("target", ["/v1/models", "/v1/responses"])
    def test_other_recording_is_refused(self, target):
        """Only chat completions can be examined."""
        with pytest.raises(ServiceError, match="not of a chat completion"):
            diagnose_recording(self.recording({"model": "m"}, [], target))


def test_report_escapes_fences_and_bars():
    """What a service says cannot break the report's table or its blocks."""
    finding = doctor.Finding("stream", received="a | b\nc", without_shim="private", without_shim_redacted="x")
    finding.deviations = [doctor.Deviation("id", 1, "when", "seen", "```\nfree")]
    text = as_markdown(Diagnosis(findings=[finding]))
    assert "| stream | a \\| b c | x |" in text
    assert text.count("```") == 2
    assert "private" not in text
    assert json_response({}) == plain_response(b"{}")
