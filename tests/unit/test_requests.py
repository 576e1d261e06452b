"""A rewritten request differs from what the program has sent in one field only, however its JSON is written."""

import json

import httpx
import pytest

from shim.core.jsontext import load_object
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
