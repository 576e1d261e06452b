"""A rewritten request differs from what the program has sent in one field only, however its JSON is written."""

import json

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.core.jsontext import DocumentScanner, list_fields, load_object, whole
from shim.core.request import ChatRequest
from shim.transport.requests import ApiRequest

URL = "http://127.0.0.1:5273/v1/chat/completions"
STRICT_TOOL = b'{"type":"function","function":{"name":"add","strict":true,"parameters":{"type":"object"}}}'


def request(body: bytes) -> ApiRequest:
    read = ApiRequest.read(httpx.Request("POST", URL, content=body))
    assert read is not None
    return read


@pytest.mark.parametrize("name", [b"\x00", b"\x1f", b"\xff", b"\xc3", b"\\u0000", b"\xc2\x85"])
def test_any_name_of_a_field_is_read(name):
    """Control characters and bytes that are not UTF-8 are sent on as they are, and the fields beside them found."""
    function = b'{"%b":1,"name":"add","strict":true,"parameters":{"%b":{},"type":"object"}}' % (name, name)
    api = request(b'{"model":"m","%b":2,"tools":[{"type":"function","function":%b}]}' % (name, function))
    assert api.without_strict().body == api.body.replace(b',"strict":true', b"")
    assert api.with_required().body == api.body.replace(b'"type":"object"', b'"type":"object","required":[]')
    assert api.with_model("other").body == api.body.replace(b'"m"', b'"other"')


def test_other_fields_keep_their_bytes():
    body = b'{ "stream":true,\n"temperature": 1.50, "model" : "m" , "stream_options":{}, "tools": [%b] }' % STRICT_TOOL
    api = request(body)
    assert api.with_model("n").body == body.replace(b'"m"', b'"n"')
    assert api.without_strict().body == body.replace(b'"strict":true,', b"").replace(b',"strict":true', b"")
    plain = api.without_streaming()
    assert b'"temperature": 1.50, "model" : "m"' in plain.body
    assert load_object(plain.body) == {
        name: value for name, value in json.loads(body).items() if not name.startswith("stream")
    }


SCHEMA = b'{"type": "object", "properties": {"name": {"const": 1.0}, "schema": {}}, "$defs": {"A": {}}}'


def asking(wrapper: bytes) -> bytes:
    return b'{"model":"m", "response_format": {"type":"json_schema","json_schema":%b}, "n": 1}' % wrapper


def test_schema_is_copied_beside_itself():
    """As it was written, and the rest with it."""
    wrapper = b'{ "name":"a","strict": true, "schema" : %b }' % SCHEMA
    api = request(asking(wrapper))
    changed = api.with_schema_unwrapped()
    copies = b',"$defs":{"A": {}},"properties":{"name": {"const": 1.0}, "schema": {}},"type":"object" }'
    assert changed.body == asking(wrapper.removesuffix(b" }") + copies)
    assert changed.with_schema_unwrapped() is None
    assert changed.with_schema_wrapped().body == api.body
    assert api.with_schema_wrapped() is None


@pytest.mark.parametrize("field", ["name", "description", "strict"])
def test_field_of_the_wrapper_is_not_replaced_by_one_of_the_schema(field):
    """A schema may have fields that mean nothing in one."""
    wrapper = {"name": "a", "description": "b", "strict": False, "schema": {field: "mine", "type": "object"}}
    changed = request(asking(json.dumps(wrapper).encode())).with_schema_unwrapped()
    assert json.loads(changed.body)["response_format"]["json_schema"] == {**wrapper, "type": "object"}


@pytest.mark.parametrize(
    "wrapper",
    [
        {"type": "object", "properties": {}},
        {"name": "a"},
        {"name": "a", "schema": None},
        {"name": "a", "schema": {}},
        {"name": "a", "schema": {"schema": {}, "$ref": "#/schema"}},
        {"name": "a", "schema": {"type": "object"}, "type": "array"},
        {"name": "a", "schema": {"description": "b"}},
        {"name": "a", "schema": [{"type": "object"}]},
        ["schema"],
    ],
)
def test_schema_in_another_form_is_left_alone(wrapper):
    api = request(asking(json.dumps(wrapper).encode()))
    assert api.with_schema_unwrapped() is None
    assert api.with_schema_wrapped() is None


@pytest.mark.parametrize("response_format", ["json_schema", {"type": "json_object"}, {"type": "text"}, None, []])
def test_other_formats_have_no_schema(response_format):
    api = request(json.dumps({"model": "m", "response_format": response_format}).encode())
    assert not api.has_schema
    assert api.with_schema_unwrapped() is None


MEDIA = b"iVBORw0KGgo=" * 1000
IMAGE = b"data:image/png;base64," + MEDIA


@pytest.mark.parametrize(
    "text",
    [
        IMAGE,
        b"see ;base64, and",
        b'a quote \\" after ;base64,AAAA\\" and more',
        b";base64,;base64,",
        b";base64,\\\\",
        b"\xff;base64,\xff",
        b";base64,}]",
    ],
)
@pytest.mark.parametrize("content", [b"", MEDIA], ids=["short", "long"])
def test_what_surrounds_an_image_is_read_and_kept(text, content):
    """Images are not read, so nothing else may go with them."""
    text = text.replace(b";base64,", b";base64," + content)
    parts = b'[{"type":"image_url","image_url":{"url":"%b"}},{"type":"text","text":"%b"}]' % (IMAGE, text)
    body = b'{"messages":[{"role":"user","content":%b}],"n":3,"stream":true,"model":"m","tools":[%b]}'
    api = request(body % (parts, STRICT_TOOL))
    assert (api.asked.model, api.asked.n, api.asked.stream, list(api.asked.tools)) == ("m", 3, True, ["add"])
    assert api.body == body % (parts, STRICT_TOOL)
    assert api.without_strict().body == api.body.replace(b',"strict":true', b"")
    assert api.with_model("other").body == api.body.replace(b'"m"', b'"other"')


def test_schemas_and_stop_texts_that_name_the_mark_of_an_image_are_read_whole():
    """A part of one would make the answer's check a different one."""
    image = {"type": "string", "const": "data:image/png;base64,AA==", "pattern": "^data:[a-z/]+;base64,[A-Z=]+$"}
    schema = {"type": "object", "properties": {"a;base64,b": image, "a;base64,c": image}}
    function = {"name": "show", "strict": True, "parameters": schema}
    fields = {
        "model": "m",
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": IMAGE.decode()}}]}],
        "stop": [";base64,", ";base64,A"],
        "tools": [{"type": "function", "function": function}],
        "response_format": {"type": "json_schema", "json_schema": {"strict": True, "schema": schema}},
    }
    assert request(json.dumps(fields).encode()).asked == ChatRequest.read(fields)


VALUES = st.recursive(
    st.none() | st.integers() | st.text(alphabet='a"\\\n{}[],:; \N{BLACK HEART SUIT}', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a"\\', max_size=3), inner, max_size=3),
)


@given(fields=st.dictionaries(st.text('ab"\\', max_size=4), VALUES, max_size=5), indent=st.sampled_from([None, 1]))
def test_every_field_is_found_where_it_stands(fields, indent):
    body = b" " + json.dumps(fields, indent=indent, ensure_ascii=False).encode() + b"\n"
    found = list_fields(body, whole(body))
    assert {name: json.loads(body[field.start : field.end]) for name, field in found.items()} == fields


@given(document=VALUES.filter(lambda value: isinstance(value, (dict, list))), cut=st.integers(0, 200))
def test_end_of_a_document_is_found_wherever_it_is_cut(document, cut):
    data = json.dumps(document).encode()
    scanner = DocumentScanner()
    head = data[: cut % len(data)]
    assert (scanner.scan(head) if head else -1) == -1
    rest = data[len(head) :]
    assert scanner.scan(rest + b'"x{"') == len(rest)
