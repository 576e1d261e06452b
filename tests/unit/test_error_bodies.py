"""Errors in any form: which HTTP status they stand for, and OpenAI's error object for them."""

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.core.error_bodies import find_error_status, page_title, rebuild_body, rebuild_event
from support.streams import WIRE, recorded_body

REQUEST = "POST /v1/chat/completions"
CHOICES = [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]
INVALID = {"code": None, "param": None, "type": "invalid_request_error"}
RECORDED_ERRORS = {
    "err-json": "Invalid JSON: [json.exception.parse_error.101] parse error at line 1, column 10: syntax error while "
    "parsing value - unexpected end of input; expected '[', '{', or a literal",
    "err-model": "Model not found: No model matching 'nope'",
    "err-nomessages": "Invalid request: [json.exception.out_of_range.403] key 'messages' not found",
    "embeddings": "Inference failed: Generator output 'hidden_states' was not found.",
}
RECORDED_NO_PATH = (
    b"server=oatpp/1.3.0\ncode=404\ndescription=Not Found\n"
    b"message=No mapping for HTTP-method: 'POST', URL: '/catalogs/local/v1/completions'\n"
)


def completion(**fields):
    return {"id": "chatcmpl-1", "object": "chat.completion", "model": "m", "choices": CHOICES, **fields}


def status_of(body):
    """The status of a body that was sent with status 200 in a chat."""
    return find_error_status(body, ("choices",))


# Which status.


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (completion(), None),
        (completion(Successful=True, HttpStatusCode=0), None),
        (completion(HttpStatusCode=200), None),
        ({"Successful": False}, 500),
        ({"Successful": False, "HttpStatusCode": 404, "error": {"message": "x"}}, 404),
        ({"HttpStatusCode": 400}, 400),
        ({"HttpStatusCode": 503}, 503),
        ({"HttpStatusCode": 999}, 500),
        ({"HttpStatusCode": True}, None),
        ({"Successful": False, "HttpStatusCode": "404"}, 404),
        ({"Successful": False, "HttpStatusCode": "4O4"}, 500),
        ({"Successful": False, "HttpStatusCode": 200}, 500),
        ({"error": {"message": "x", "type": "invalid_request_error"}}, 400),
        ({"error": "Model not found: x"}, 404),
        ({"error": "x"}, 500),
        ({"error": {}}, None),
        ({"error": None}, None),
        ({"error": {"message": "x"}, "choices": []}, 500),
        ({"error": {"message": "x"}, "id": "1", "object": "chat.completion", "choices": None}, 500),
        (completion(error={"message": "x"}), None),
        ({"Error": {"message": "x", "code": 503}}, 503),
        ({"errors": ["x"]}, 500),
        ({"errors": [{"message": "x", "code": 429}, {"message": "y", "code": 400}]}, 429),
        ({"ok": False, "description": "x"}, 500),
        ({"choices": [{"index": 0, "error": {"message": "x", "code": 502}, "finish_reason": "error"}]}, 502),
        ({"choices": [{"index": 0, "message": {"error": "x"}}]}, 500),
        ({"choices": [{"index": 0, "message": {"content": ""}}], "error": {"message": "x", "code": 503}}, 503),
        ({"object": "error", "message": "x", "code": 400}, 400),
        ({"type": "error", "message": "x"}, 500),
        ({"status": "failed"}, 500),
        ({"success": False}, 500),
        ({"detail": "x"}, 500),
        ({"detail": [{"loc": ["body"], "msg": "x"}], "status_code": 422}, 422),
        ({"message": "x", "code": "429"}, 429),
        ({"title": "x", "status": 400}, 400),
        ({"id": "1", "object": "chat.completion"}, None),
        ({"status": "in_progress", "message": "loading"}, None),
        ({"type": "ping"}, None),
        ({}, None),
    ],
)
def test_failure_within_a_success(body, status):
    """The status of an error in a body that was sent with status 200; None for an answer and a sign of life."""
    assert status_of(body) == status


@pytest.mark.parametrize("field", ["output", "object"])
def test_failed_response_is_an_answer(field):
    """Of /v1/responses: the official client gives it to the program with its error."""
    body = {"error": {"message": "x"}, "object": "response", "status": "failed", "output": [1]}
    assert find_error_status(body, (field,)) is None


def test_error_beside_an_answer_counts_in_a_stream_only():
    """There the official client raises it, and does not look at the choices."""
    chunk = completion(error={"message": "x", "code": 503})
    assert find_error_status(chunk, ("choices",), in_stream=True) == 503
    assert find_error_status(chunk, ("choices",)) is None


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"status": 422}, 422),
        ({"code": 404}, 404),
        ({"HttpStatusCode": 503}, 503),
        ({"status": 200, "code": 429}, 429),
        ({"status": 600}, 500),
        ({"code": "model_not_found", "type": "invalid_request_error"}, 404),
        ({"message": "Model not found: No model matching 'x'", "type": "invalid_request_error"}, 404),
        ({"type": "invalid_request_error", "message": None}, 400),
        ({"type": "authentication_error"}, 401),
        ({"type": "permission_error"}, 403),
        ({"type": "not_found_error"}, 404),
        ({"type": "rate_limit_error"}, 429),
        ({"type": "server_error"}, 500),
        ({"code": "503"}, 503),
        ({"http_status": 403}, 403),
        ({"type": "context_length_exceeded"}, 400),
        ({"code": "insufficient_quota", "type": "server_error"}, 429),
        ({"type": []}, 500),
        ({"code": True}, 500),
        ({"code": "4040"}, 500),
    ],
)
def test_status_of_an_error(error, status):
    """A number that is given counts first, then what is said, then the type."""
    assert status_of({"error": error}) == status


def test_status_beside_an_error():
    """What the error itself names counts more than what is beside it."""
    assert status_of({"error": {"message": "x"}, "status": 422}) == 422
    assert status_of({"error": {"message": "x", "code": 404}, "status": 422}) == 404
    assert status_of({"error": "x", "code": "429"}) == 429


# Errors.


def error(message, kind="invalid_request_error", param=None, code=None, **members):
    return {"error": {"message": message, "type": kind, "param": param, "code": code, **members}}


def rebuilt(status, body, reason="", request=REQUEST, **options):
    written = body if isinstance(body, bytes) else json.dumps(body).encode()
    left = rebuild_body(status, written, request=request, reason=reason, **options)
    return None if left is None else json.loads(left)


@pytest.mark.parametrize(
    "body",
    [
        error("no"),
        error("no", "BadRequestError", "model", 400, extra=[1]),
        {**error("no"), "request_id": "r"},
        error("x" * 5000),
    ],
)
def test_proper_error_stays(body):
    """Other members, other types and long messages are the service's own business."""
    assert rebuilt(400, body) is None


@pytest.mark.parametrize("message", RECORDED_ERRORS.values(), ids=RECORDED_ERRORS)
def test_recorded_errors_of_2_2_1_stay(message):
    assert rebuilt(400, {"error": {**INVALID, "message": message}}) is None


@pytest.mark.parametrize(
    ("before", "place", "message"),
    [
        (
            "Invalid request: ",
            "search_options.cc:22 void fl::{anonymous}::ValidateTemperature(float) ",
            "temperature must be in the range [0.0, 2.0]",
        ),
        (
            "Inference failed: ",
            "grammar.cc:48 std::string fl::BuildLarkGrammar(const ToolCallContext&, bool) ",
            "automatic tool calls require distinct model-published tool boundary tokens",
        ),
    ],
)
def test_source_location_is_cut_from_recorded_errors(before, place, message):
    """Nothing else of the object changes."""
    left = rebuilt(400, {"error": {**INVALID, "message": before + place + message}})
    assert left == {"error": {**INVALID, "message": before + message}}


NO_REASON = "The service answered 418 I'm a teapot to POST /v1/chat/completions without a reason."
WITH_A_PAGE = "The service answered 418 I'm a teapot to POST /v1/chat/completions with an HTML page"
HTML = "<html><head><title>\n 502 Bad&nbsp;Gateway\n</title></head><body>secrets</body></html>"
BETALGO = {"Successful": False, "HttpStatusCode": 400, "IsDelta": False, "object": "chat.completion"}
PROBLEM = {
    "type": "https://tools.ietf.org/html/rfc9110#section-15.5.1",
    "title": "One or more validation errors occurred.",
    "status": 400,
    "errors": {"messages": ["The messages field is required.", "Really."]},
    "traceId": "00-1",
}

FORMS = {
    "empty": (b"", error(NO_REASON)),
    "blank": (b" \r\n", error(NO_REASON)),
    "null": (b"null", error(NO_REASON)),
    "empty object": (b"{}", error(NO_REASON)),
    "a number": (b"404", error(NO_REASON)),
    "text": (
        b"No OpenAIService provider found for modelName:x\n",
        error("No OpenAIService provider found for modelName:x"),
    ),
    "text with a place": (b"a_b.cc:1 void fl::F(int) it broke", error("it broke")),
    "long text": (b"x" * 5000, error("x" * 1999 + "\u2026")),
    "not UTF-8": (b"\xff\xfe\x00", error("\ufffd\ufffd\x00")),
    "recorded JSON text": (b'"Model scripted-generic-cpu not found"', error("Model scripted-generic-cpu not found")),
    "recorded oatpp text": (
        RECORDED_NO_PATH,
        error("No mapping for HTTP-method: 'POST', URL: '/catalogs/local/v1/completions'"),
    ),
    "oatpp text of several lines": (b"server=oatpp/1.3.0\ncode=1\nmessage=a\nb\n", error("a\nb")),
    "text that begins like oatpp's": (b"server=oatpp/1.3.0\ncode=1", error("server=oatpp/1.3.0\ncode=1")),
    "page": (b"\r\n" + HTML.encode(), error(f"{WITH_A_PAGE}: 502 Bad Gateway")),
    "page without a title": (b"<!DOCTYPE html><p>secrets", error(f"{WITH_A_PAGE}.")),
    "page with an open title": (b"<html><title><p>secrets", error(f"{WITH_A_PAGE}.")),
    "text with a tag": (b"<b>no</b>", error("<b>no</b>")),
    "error text": ({"error": "no"}, error("no")),
    "Error text": ({"Error": "no"}, error("no")),
    "error texts": ({"error": ["no", "never"]}, error("no; never")),
    "message": ({"message": "no"}, error("no")),
    "blank message": ({"message": " ", "detail": "no"}, error("no")),
    "error object with a blank message": ({"error": {"message": " ", "msg": "no"}}, error("no", msg="no")),
    "error object without its envelope": (
        {"object": "error", "message": "no", "type": "NotFoundError", "param": None, "code": 404},
        error("no", "NotFoundError", None, 404),
    ),
    "download": ({"Success": False, "ErrorMessage": "no"}, error("no")),
    "detail": ({"detail": "no", "type": "about:blank"}, error("no")),
    "detail object": ({"detail": {"error": {"message": "no"}}}, error("no")),
    "FastAPI": (
        {"detail": [{"loc": ["body", 0, "model"], "msg": "Field required", "type": "missing"}, {"msg": "no"}]},
        error("body.0.model: Field required; no"),
    ),
    "problem": (
        PROBLEM,
        error("One or more validation errors occurred: messages: The messages field is required.; Really"),
    ),
    "problem with detail": ({"title": "Not Found", "detail": "No such path."}, error("Not Found: No such path")),
    "error object without fields": ({"error": {"message": "no"}}, error("no")),
    "error object without code": (
        {"error": {"message": "no", "type": "t", "param": "p"}},
        error("no", "t", "p"),
    ),
    "error object without message": ({"error": {"code": "c"}}, error('{"error": {"code": "c"}}', code="c")),
    "error object with a message deeper": (
        {"error": {"message": {"error": "no"}, "type": ""}},
        error("no"),
    ),
    "fields beside the error stay": (
        {"error": {"message": "no"}, "request_id": "r"},
        {**error("no"), "request_id": "r"},
    ),
    "Betalgo": (
        {**BETALGO, "error": {"code": "c", "message": None, "messages": ["no", "never"], "type": "t", "param": None}},
        error("no; never", "t", None, "c", messages=["no", "never"]),
    ),
    "Betalgo with a proper error": ({**BETALGO, **error("no")}, error("no")),
    "Betalgo without error": ({**BETALGO, "error": None}, error(NO_REASON)),
    "failed response": (
        {"object": "response", "status": "failed", "output": [], "error": {"code": "server_error", "message": "no"}},
        error("no", code="server_error"),
    ),
    "failed response without error": ({"object": "response", "error": None, "x": "secrets"}, error(NO_REASON)),
    "unknown object": ({"foo": "bar"}, error('{"foo": "bar"}')),
    "half of an emoji": (b'{"message":"\\ud83d"}', error("\ud83d")),
}  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), FORMS.values(), ids=FORMS)
def test_error_in_any_form_is_openais(body, expected):
    assert rebuilt(418, body, "I'm a teapot") == expected


@pytest.mark.parametrize(
    ("status", "kind"), [(400, "invalid_request_error"), (499, "invalid_request_error"), (500, "server_error")]
)
def test_type_is_by_status(status, kind):
    assert rebuilt(status, b"no")["error"]["type"] == kind
    assert rebuilt(status, {"error": {"message": "no"}})["error"]["type"] == kind


def test_error_without_a_message_says_what_is_known():
    """1.0.0 answers so to a model that it does not know, to broken JSON, and at addresses that it does not have."""
    known = error(
        f"The service answered 500 Internal Server Error to {REQUEST} without a reason. Foundry Local 1.x does so "
        "if the model is unknown or not loaded, and if the request is not valid JSON.",
        "server_error",
    )
    assert rebuilt(500, b"", "Internal Server Error") == known
    assert rebuilt(404, b"", request="POST /v1/embeddings") == error(
        "The service answered 404 to POST /v1/embeddings without a reason. Foundry Local 1.x does so if it has no such "
        "endpoint."
    )


def test_only_so_many_messages_are_joined():
    many = {"detail": ["no"] * 1000, "errors": {f"e{number}": "no" for number in range(1000)}}
    message = rebuilt(400, many)["error"]["message"]
    assert message.count("no") == 40


@pytest.mark.parametrize(
    ("open_", "shut"), [('{"error":', "}"), ('{"error":[', "]}"), ("[", "]"), ('{"error":{"param":', "}}")]
)
@pytest.mark.parametrize("depth", [100, 400, 900, 100_000])
def test_deep_nesting_raises_nothing(open_, shut, depth):
    """Whatever can be read of it, the answer is an error object with a message."""
    body = (open_ * depth + '"no"' + shut * depth).encode()
    left = rebuild_body(500, body, request=REQUEST)
    assert left is None or b'"message":"' in left or b'"message": "' in left


def test_error_that_is_nested_too_deeply_is_its_text():
    """What no client reads as JSON is still an error."""
    body = b'{"error":{"message":"no","param":' + b"[" * 1010 + b"]" * 1010 + b"}}"
    assert rebuilt(418, body)["error"]["message"].startswith('{"error":{"message":"no"')


@pytest.mark.parametrize("opening", ["<title", "<title ", "<TITLE>", "<title>\n", "<title><", "<title x='"])
def test_title_of_a_page_is_found_in_linear_time(opening):
    """A search that goes on to the end of the page for each opening would take hours."""
    assert page_title("<html>" + opening * 1_000_000) == ""


FIELDS_OF_ANSWERS = [
    *("error", "message", "detail", "errors", "title", "loc", "msg", "type", "code", "param", "status", "object"),
    *("Successful", "HttpStatusCode", "choices", "delta", "tool_calls", "content", "data", "id"),
]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(FIELDS_OF_ANSWERS) | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)
pieces = st.sampled_from(
    [b"<html>", b"<title>", b"</title>", b"server=oatpp ", b"\nmessage=", b'{"error":', b"\xef\xbb\xbf"]
)
any_bytes = st.binary(max_size=50) | values.map(lambda value: json.dumps(value).encode())


def is_error_object(body):
    found = json.loads(body)["error"]
    return (
        found.keys() >= {"message", "type", "param", "code"}
        and isinstance(found["message"], str)
        and bool(found["type"])
    )


@given(any_bytes | st.lists(st.binary(max_size=9) | pieces, max_size=9).map(b"".join), st.integers(400, 599))
def test_any_body_becomes_an_error_object(body, status):
    """Nothing is raised for any bytes; what leaves is OpenAI's object, and needs no repair itself."""
    left = rebuild_body(status, body, request=REQUEST)
    assert is_error_object(body if left is None else left)
    if left is not None and not json.loads(left).keys() - {"error"}:
        assert rebuild_body(status, left, request=REQUEST) is None


@given(values.filter(lambda value: isinstance(value, dict)), st.booleans())
def test_any_event_has_a_status_and_becomes_an_error_object(value, complete):
    """Nothing is raised for any JSON; what is emitted is OpenAI's object, and needs no repair itself."""
    status = find_error_status(value, ("choices",), in_stream=True)
    assert status in {None, *range(400, 600)}
    event = rebuild_event(value, status or 500, complete=complete)
    if event is not None:
        assert is_error_object(json.dumps(event))
        assert rebuild_event(event, status or 500) is None


# Error events.


@pytest.mark.parametrize(
    "payload",
    [completion(), {}, {"error": None}, completion(error={}), {"choices": [], "usage": {"total_tokens": 1}}],
)
def test_event_that_is_not_an_error_has_no_status(payload):
    assert find_error_status(payload, ("choices", "usage"), in_stream=True) is None


@pytest.mark.parametrize("payload", [error("no"), error("no", "server_error", extra=1), error("no", code="c")])
@pytest.mark.parametrize("complete", [True, False])
def test_valid_error_event_is_unchanged(payload, complete):
    assert rebuild_event(payload, 500, complete=complete) is None


@pytest.mark.parametrize("lacking", [{"message": "no"}, {"message": "no", "type": "t"}, {"message": "no", "code": 4}])
def test_error_object_of_another_service_is_not_completed(lacking):
    """It has the message that the official client needs; Foundry Local's is completed."""
    assert rebuild_event({"error": lacking}, 500, complete=False) is None
    assert rebuilt(500, {"error": lacking}, complete=False) is None
    assert rebuild_event({"error": lacking}, 500)["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize("deep", ['{"error":%s}', '{"error":{"message":"no","param":%s}}', '{"detail":"no","x":%s}'])
def test_deep_error_event_becomes_an_error_object(deep):
    """What cannot be written again is left out."""
    payload = json.loads(deep % ("[" * 700 + "]" * 700))
    payload["deeper"] = [payload.copy()]
    for _ in range(600):
        payload["deeper"] = [payload["deeper"]]
    event = rebuild_event(payload, 500)
    assert event is not None
    assert is_error_object(json.dumps(event))


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"error": "no"}, error("no", "server_error")),
        ({"error": "Model not found: x"}, error("Model not found: x")),
        ({"error": {"message": "no", "type": "server_error"}}, error("no", "server_error")),
        ({"error": {"message": "no", "code": 404}}, error("no", code=404)),
        ({"error": {"message": "a.cc:1 void fl::F() no"}}, error("no", "server_error")),
        (
            {"error": {"code": "c"}},
            error("The service reports a failure without a reason.", "server_error", code="c"),
        ),
        ({"Successful": False}, error("The service reports a failure without a reason.", "server_error")),
        ({"Successful": False, "HttpStatusCode": 400, "choices": None, "error": {"message": "no"}}, error("no")),
        ({"error": {"message": "no"}, "choices": []}, {**error("no", "server_error"), "choices": []}),
        ({"error": "no", "choices": []}, error("no", "server_error")),
        ({"Error": {"message": "no", "type": "t", "code": 400}}, error("no", "t", code=400)),
        ({"Error": "no"}, error("no", "server_error")),
        (
            {"object": "error", "message": "no", "code": 400, "type": "BadRequestError"},
            error("no", "BadRequestError", code=400),
        ),
        ({"detail": "no"}, error("no", "server_error")),
        ({"type": "error", "message": "no"}, error("no", "error")),
        ({"status": "failed"}, error("The service reports a failure without a reason.", "server_error")),
        ({"errors": [{"message": "no", "code": 429}]}, error("no", code=429)),
        ({"ok": False, "description": "no"}, error("no", "server_error")),
        ({"error": {"message": {"text": "no"}}}, error("no", "server_error")),
        ({"choices": [{"index": 0, "delta": {"error": {"message": "no"}}}]}, error("no", "server_error")),
        ({"error": True}, error("The service reports a failure without a reason.", "server_error")),
        (
            {"error": {"x": {"y": "no"}}},
            {
                "error": {
                    "x": {"y": "no"},
                    **error('The service reports a failure: {"x":{"y":"no"}}', "server_error")["error"],
                }
            },
        ),
    ],
)
def test_error_event_in_any_form_is_openais(payload, expected):
    status = find_error_status(payload, ("choices", "usage"), in_stream=True)
    assert rebuild_event(payload, status) == expected


@pytest.mark.parametrize("name", ["err-ctx", "err-temp", "tool-auto", "tool-required"])
def test_recorded_error_events_lose_their_source_location(name):
    """The message remains, from its first word on."""
    payload = json.loads(recorded_body(WIRE / "live" / "2.2.1" / f"{name}.http").rpartition(b"data: ")[2])
    left = rebuild_event(payload, 500)
    message = left["error"].pop("message")
    sent = payload["error"].pop("message")
    assert left == payload
    assert sent.endswith(message)
    assert message.split()[0].strip(string.punctuation) in {"request", "temperature", "automatic", "Model"}
