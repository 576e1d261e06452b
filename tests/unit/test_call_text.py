"""Tool calls written as text: every spelling, false starts, and any cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.core.call_text import Call, CallExtractor

WEATHER_SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "unit": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "code": {"type": ["string", "null"]},
        "detailed": {"type": ["boolean", "null"]},
        "place": {"anyOf": [{"type": "number"}, {"type": "object"}]},
        "broken": {"anyOf": 1},
    },
    "required": ["city"],
}
TOOLS = {"get_weather": WEATHER_SCHEMA, "get_time": {}, "odd": {"properties": ["city"]}}
ROOMY = 10**6
PARIS = Call("get_weather", '{"city":"Paris"}')
PARIS_C1 = PARIS._replace(id="c1")
PARIS_JSON = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
TIME = Call("get_time", "{}")
TIME_JSON = '{"name": "get_time", "arguments": {}}'
CALL_TEXT = f"<tool_call>{PARIS_JSON}</tool_call>"
TAGS = ["tool_call", "tool_calls", "function_call", "tools", "response"]


def in_pieces(text, size):
    return [text[at : at + size] for at in range(0, len(text), size)]


def joined(found):
    """Adjacent texts become one, so that what was found can be compared whatever the cuts were."""
    out = []
    for each in found:
        if out and isinstance(each, str) and isinstance(out[-1], str):
            out[-1] += each
        else:
            out.append(each)
    return out


def extract(pieces, limit=ROOMY):
    extractor = CallExtractor(TOOLS, limit=limit)
    found = [each for piece in pieces for each in extractor.feed(piece)]
    return joined([*found, *extractor.finish()])


def found_in(text, limit=ROOMY):
    """What is found in the text, which must be the same whole, in small pieces and character by character."""
    whole = extract([text], limit)
    for size in (1, 2, 7, 30):
        assert extract(in_pieces(text, size), limit) == whole
    return whole


# The cases that Microsoft's ToolCallStreamAccumulator is held to: the file tool_call_stream_accumulator_test.cc below
# sdk_v2/cpp/test in microsoft/Foundry-Local. Its case without markers has no counterpart: the markers are fixed here.


def test_an_empty_piece_gives_nothing():
    extractor = CallExtractor(TOOLS, limit=ROOMY)
    assert extractor.feed("") == []
    assert extractor.feed("text") == ["text"]
    assert extractor.feed("") == []
    assert extractor.finish() == []


def test_plain_text_passes_as_it_is():
    assert extract(["Hello", ", ", "world!"]) == ["Hello, world!"]


def test_a_call_in_one_piece():
    text = 'prefix <tool_call>[{"name":"add","arguments":{"a":1,"b":2}}]</tool_call> suffix'
    assert extract([text]) == ["prefix ", Call("add", '{"a":1,"b":2}'), " suffix"]


def test_a_call_over_many_pieces():
    pieces = [
        *("before ", "<tool", "_call", ">", '[{"name":"mul","arg', 'uments":{"x":7,"y":6}}]', "</tool", "_call>"),
        " after",
    ]
    assert extract(pieces) == ["before ", Call("mul", '{"x":7,"y":6}'), " after"]


def test_a_call_character_by_character():
    assert extract('<tool_call>{"name":"f","arguments":{}}</tool_call>') == [Call("f", "{}")]


def test_two_calls_with_text_between():
    text = (
        '<tool_call>{"name":"a","arguments":{}}</tool_call> middle <tool_call>{"name":"b","arguments":{}}</tool_call>'
    )
    assert found_in(text) == [Call("a", "{}"), " middle ", Call("b", "{}")]


def test_the_beginning_of_a_marker_comes_back_at_the_end():
    extractor = CallExtractor(TOOLS, limit=ROOMY)
    assert extractor.feed("hello <too") == ["hello "]
    assert extractor.finish() == ["<too"]


def test_an_unfinished_call_comes_back_at_the_end():
    extractor = CallExtractor(TOOLS, limit=ROOMY)
    assert extractor.feed('prefix <tool_call>{"name":"truncated') == ["prefix "]
    assert extractor.finish() == ['<tool_call>{"name":"truncated']


def test_text_within_a_call_is_held_until_the_call_ends():
    extractor = CallExtractor(TOOLS, limit=ROOMY)
    assert extractor.feed("text ") == ["text "]
    assert extractor.feed('<tool_call>{"name":"f"') == []
    assert extractor.feed(',"arguments":{}}</tool_call>') == [Call("f", "{}")]


def test_a_false_start_flows_once_it_is_seen_to_be_one():
    extractor = CallExtractor(TOOLS, limit=ROOMY)
    assert extractor.feed("hello <tool") == ["hello "]
    assert extractor.feed("box>") == ["<toolbox>"]


# The spellings.


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize(
    ("inside", "calls"),
    [
        pytest.param(PARIS_JSON, [PARIS], id="object"),
        pytest.param(f"\n{PARIS_JSON}\n", [PARIS], id="object on its own line"),
        pytest.param(f"[{PARIS_JSON}]", [PARIS], id="list of one"),
        pytest.param(f" [ {PARIS_JSON} ,\n {TIME_JSON} ] ", [PARIS, TIME], id="list"),
        pytest.param(f"{PARIS_JSON}\n{TIME_JSON}", [PARIS, TIME], id="objects on lines"),
        pytest.param(f"{PARIS_JSON}{TIME_JSON}", [PARIS, TIME], id="objects without anything between"),
        pytest.param(f"{PARIS_JSON}, {TIME_JSON}", [PARIS, TIME], id="objects with a comma"),
        pytest.param(f"{PARIS_JSON}}}", [PARIS], id="a brace too many"),
        pytest.param(f"{PARIS_JSON}}}}}\n", [PARIS], id="two braces too many"),
        pytest.param(f"[{PARIS_JSON}}}]", [PARIS], id="a brace too many in a list"),
        pytest.param(f"[{PARIS_JSON}]]", [PARIS], id="a bracket too many"),
        pytest.param(f"{PARIS_JSON}}}\n{TIME_JSON}}}", [PARIS, TIME], id="a brace too many each"),
    ],
)
def test_tags(tag, inside, calls):
    """Each tag takes an object, a list, and objects one after another, and forgives brackets too many."""
    assert found_in(f"a <{tag}>{inside}</{tag}> z") == ["a ", *calls, " z"]


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        pytest.param(f"functools[{PARIS_JSON}]", [PARIS], id="functools"),
        pytest.param(f"functools[ {PARIS_JSON},\n{TIME_JSON} ]", [PARIS, TIME], id="functools, two"),
        pytest.param(f"functools[{PARIS_JSON}}}]", [PARIS], id="functools, a brace too many"),
        pytest.param(f"functools[{PARIS_JSON}}}}}, {TIME_JSON}]", [PARIS, TIME], id="functools, and a call behind"),
        pytest.param(f"functools[{PARIS_JSON}]]}}", [PARIS], id="functools, brackets too many"),
        pytest.param(f"[TOOL_CALLS][{PARIS_JSON}]", [PARIS], id="Mistral"),
        pytest.param(f"[TOOL_CALLS] [{PARIS_JSON}, {TIME_JSON}]", [PARIS, TIME], id="Mistral, two"),
        pytest.param(f"[TOOL_CALLS][{PARIS_JSON}]]", [PARIS], id="Mistral, a bracket too many"),
    ],
)
def test_lists_with_a_prefix(text, calls):
    """They are complete with their bracket."""
    assert found_in(f"a {text} z") == ["a ", *calls, " z"]
    extractor = CallExtractor(TOOLS, limit=ROOMY)
    assert calls[-1] in extractor.feed(text)


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (PARIS_JSON, [PARIS]),
        (f"\n \t{PARIS_JSON}\n", [PARIS]),
        (f"[{PARIS_JSON}]", [PARIS]),
        (f" [ {PARIS_JSON}, {TIME_JSON} ]", [PARIS, TIME]),
        (f"{PARIS_JSON}\n{TIME_JSON}", [PARIS, TIME]),
        (f"{PARIS_JSON}}}}}", [PARIS]),
        (f"[{PARIS_JSON}}}]]", [PARIS]),
        (f"{PARIS_JSON} z", [PARIS, " z"]),
        (f"{PARIS_JSON}}}] z", [PARIS, " z"]),
        ('{"name":"get_weather","parameters":{"city":"Paris"}}', [PARIS]),
        ('{"name" : "get_weather" , "parameters" : {"city" : "Paris"} }', [PARIS]),
        ('{"type": "function", "name": "get_weather", "parameters": {"city": "Paris"}}', [PARIS]),
        ('{"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}', [PARIS]),
        ('{"function": {"name": "get_weather", "arguments": {"city": "Paris"}}, "id": "c1"}', [PARIS_C1]),
        ('{"id": "c1", "name": "get_weather", "arguments": {"city": "Paris"}}', [PARIS_C1]),
        (f'[{{"id": "c1", "type": "function", "function": {PARIS_JSON}}}]', [PARIS_C1]),
    ],
)
def test_bare_json_at_the_beginning(text, calls):
    assert found_in(text) == calls


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"z {PARIS_JSON}", id="behind text"),
        pytest.param(f"z [{PARIS_JSON}]", id="in a list behind text"),
        pytest.param(PARIS_JSON.replace("get_weather", "get_weathers"), id="unknown function"),
        pytest.param(PARIS_JSON.replace("get_weather", "get_"), id="beginning of a known one"),
        pytest.param('{"name": "get_weather"}', id="no arguments"),
        pytest.param('{"name": "get_weather", "arguments": ["Paris"]}', id="arguments in a list"),
        pytest.param(f'[{PARIS_JSON}, {{"name": "other", "arguments": {{}}}}]', id="one of them unknown"),
        pytest.param(f"[{PARIS_JSON}, 1]", id="one of them a number"),
        pytest.param(PARIS_JSON[:-1], id="cut off"),
        pytest.param('{"name": "get_weather", arguments: {}}', id="no JSON"),
        pytest.param('{"city": "Paris"}', id="an object"),
        pytest.param("[1, 2]", id="a list"),
        pytest.param("{}", id="nothing"),
        pytest.param("  {", id="a brace"),
    ],
)
def test_bare_json_that_is_no_call(text):
    assert found_in(text) == [text]


def test_bare_json_with_the_longest_name():
    """OpenAI allows 64 characters."""
    name = "n" * 64
    extractor = CallExtractor({name: {}}, limit=ROOMY)
    assert extractor.feed(json.dumps({"name": name, "arguments": {}})) == [Call(name, "{}")]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("<function=get_weather><parameter=city>Paris</parameter></function>", id="alone"),
        pytest.param(
            "<tool_call><function=get_weather><parameter=city>Paris</parameter></function></tool_call>", id="in a tag"
        ),
        pytest.param(
            "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>",
            id="on lines",
        ),
    ],
)
def test_xml(text):
    assert found_in(f"a {text} z") == ["a ", PARIS, " z"]


def test_xml_several_functions():
    """In one tag, or one after another without any."""
    one, other = "<function=get_weather><parameter=city>Paris</parameter></function>", "<function=get_time></function>"
    assert found_in(f"<tool_call>{one}\n{other}</tool_call>") == [PARIS, TIME]
    assert found_in(f"{one}\n{other}") == [PARIS, TIME]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("city", "Paris", "Paris"),
        ("city", "12", "12"),
        ("city", "", ""),
        ("city", "\n\n Paris \n\n", "\n Paris \n"),
        ("city", "\n", ""),
        ("city", 'a "b" < c > </function> </tool_call> <tool_call>{"name":"f"}</tool_call> \\', None),
        ("unit", "12", "12"),
        ("code", "12", "12"),
        ("unknown", "12", "12"),
        ("days", "3", 3),
        ("days", " 3\n", 3),
        ("days", "three", "three"),
        ("days", "NaN", "NaN"),
        ("days", "[" * 5000, "[" * 5000),
        ("detailed", "true", True),
        ("detailed", "null", None),
        ("place", '{"lat": [48.8, "é"]}', {"lat": [48.8, "é"]}),
        ("broken", "1", 1),
    ],
)
def test_xml_values(key, value, expected):
    """The declared type decides; one newline at either end belongs to the tags."""
    if expected is None and key == "city":
        expected = value
    text = f"<function=get_weather><parameter={key}>{value}</parameter></function>"
    (call,) = found_in(text)
    assert json.loads(call.arguments) == {key: expected}


@pytest.mark.parametrize("function", ["undeclared", "get_time", "odd"])
def test_xml_without_a_schema(function):
    """Where nothing is known of a parameter it is text."""
    text = f"<function={function}><parameter=city>1</parameter></function>"
    assert found_in(text) == [Call(function, '{"city":"1"}')]


@pytest.mark.parametrize(
    ("object_", "call"),
    [
        pytest.param('{"name":"f","arguments":{"b":1,"a":[2, 3]}}', Call("f", '{"b":1,"a":[2,3]}'), id="order"),
        pytest.param('{"name":"f","parameters":{"a":1}}', Call("f", '{"a":1}'), id="parameters"),
        pytest.param('{"name":"f"}', Call("f", "{}"), id="no arguments"),
        pytest.param('{"name":"f","arguments":null}', Call("f", "{}"), id="null"),
        pytest.param('{"name":"f","arguments":""}', Call("f", "{}"), id="empty text"),
        pytest.param('{"name":"f","arguments":"{\\"a\\": 1}"}', Call("f", '{"a":1}'), id="arguments as text"),
        pytest.param('{"arguments":{},"name":"f"}', Call("f", "{}"), id="name last"),
        pytest.param('{"name":"f","arguments":{},"id":"c1"}', Call("f", "{}", "c1"), id="id"),
        pytest.param('{"name":"f","arguments":{},"id":7}', Call("f", "{}"), id="id that is none"),
        pytest.param('{"name":"f","arguments":{},"id":""}', Call("f", "{}"), id="empty id"),
        pytest.param('{"name":"f","arguments":{},"thought":"x"}', Call("f", "{}"), id="another member"),
        pytest.param(
            '{"type":"function","id":"c1","function":{"name":"f","arguments":"{\\"a\\":1}"}}',
            Call("f", '{"a":1}', "c1"),
            id="nested",
        ),
        pytest.param('{"name":"f","arguments":{"a":"é🌸\\u00fc"}}', Call("f", '{"a":"é🌸ü"}'), id="unescaped"),
        pytest.param('{"name":"f","arguments":{"a":"1\n2"}}', Call("f", '{"a":"1\\n2"}'), id="line break in a string"),
        pytest.param('{"name":"f","arguments":{"a":"\\ud83d"}}', Call("f", '{"a":"\\ud83d"}'), id="half an emoji"),
        pytest.param(
            '{"name":"f","arguments":{"a":123456789012345678901234567890}}',
            Call("f", '{"a":123456789012345678901234567890}'),
            id="large number",
        ),
        pytest.param(
            '{"name":"f","arguments":{"a":"</tool_call>\\"}{[","b":"\\\\"}}',
            Call("f", '{"a":"</tool_call>\\"}{[","b":"\\\\"}'),
            id="marker and brackets in a string",
        ),
        pytest.param('{"name":"日本 語","arguments":{}}', Call("日本 語", "{}"), id="any name"),
    ],
)
def test_what_an_object_may_look_like(object_, call):
    assert found_in(f"<tool_call>{object_}</tool_call>") == [call]
    assert found_in(f"functools[{object_}]") == [call]


FALSE_STARTS = [
    "]} x",
    "1 < 2 and f(x)[0] > {y}",
    "<tool_<tool_call",
    "<tool_call>",
    "<tool_call> x",
    "<tool_call>{",
    "<tool_call>{}",
    "<tool_call>{x",
    "<tool_call>[]</tool_call>",
    "<tool_call>[[",
    "<tool_call></tool_call>",
    "<tool_call><tool_call",
    "<tool_call><function>",
    '<tool_call>{"name": "f"</tool_call>',
    '<tool_call>{"name": "f"}',
    '<tool_call>{"name": "f"}</tool_cal',
    '<tool_call>{"name": "f"}</tool_calls>',
    '<tool_call>{"name": "f"}</function_call>',
    '<tool_call>{"name": "f"} and so on</tool_call>',
    '<tool_call>{"name": f}</tool_call>',
    '<tool_call>{"name": "f" \\"</tool_call>',
    '<tool_call>{"name": 1}</tool_call>',
    '<tool_call>{"name": null}</tool_call>',
    '<tool_call>{"name": ["f"], "arguments": {}}</tool_call>',
    '<tool_call>{"name": ""}</tool_call>',
    '<tool_call>{"arguments": "null"}</tool_call>',
    '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
    '<tool_call>{"name": "f", "arguments": "no JSON"}</tool_call>',
    '<tool_call>{"name": "f", "arguments": "[1]"}</tool_call>',
    '<tool_call>{"name": "f", "arguments": false}</tool_call>',
    '<tool_call>[{"name": "f"}, 1]</tool_call>',
    '<tool_call>[{"name": "f"}, {"name": 1}]</tool_call>',
    '<tool_call>[{"name": "f"}, {"arguments": {}}]</tool_call>',
    '<tool_call>{"name": "f", "arguments": ' + '{"a":' * 2000 + "1" + "}" * 2001 + "</tool_call>",
    '<response>{"name": "Bob", "age": 3}</response>',
    '<tools>{"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}}</tools>',
    "functools",
    "functools[",
    "functools[]",
    "functools[functools[x",
    "functools [",
    'functools[{"name": "f"}',
    'functools[{"name": "f"',
    'functools[{"name": "f"}; {"name": "f"}]',
    "import functools\nfunctools.wraps",
    "[TOOL_CALLS]",
    "[TOOL_CALLS][TOOL_CALLS][",
    "[TOOL_CALLS] nothing",
    "<function=",
    "<function=f",
    "<function= f></function>",
    "<function=f>",
    "<function=f> text",
    "<function=f><parameter=>",
    "<function=f><parameter=a>1",
    "<function=f><parameter=a>1</parameter> text",
    "<function=f><parameter=a>1</parameter></func",
    "<tool_call><function=f></function>",
    "<tool_call><function=f></function> text",
    " \n ",
    "text \n ",
]


@pytest.mark.parametrize("text", FALSE_STARTS)
def test_what_is_no_call_stays_as_it_is(text):
    assert found_in(text) == [text]
    assert found_in(f"a {text}") == [f"a {text}"]
    assert found_in(f"{text}. z") == [f"{text}. z"]


@pytest.mark.parametrize(
    "text",
    [
        "<tool_",
        "<tool_call>",
        "<tool_call>{",
        "functools[",
        "[TOOL_CALLS][",
        "<function=f>",
        '<tool_call>{"name": "f"',
        '<tool_call>{"name": "f}</tool_call>',
        '<tool_call>{"name": "f"}</tool_cal',
        '<tool_call>{"name": "f"}</tools>',
        '<tool_call>{"arguments": {}}</tool_call>',
        'functools[{"name": "f',
        '[TOOL_CALLS] [{"name": "f"',
        "<function=f><parameter=a>1</parameter>",
        '{"name": "get_weather", "arguments"',
    ],
)
def test_a_broken_call_does_not_hide_the_next_one(text):
    assert found_in(f"{text} <tools>{PARIS_JSON}</tools>") == [f"{text} ", PARIS]


def test_nothing_in_the_value_of_a_parameter_is_a_call():
    """Not even where the call around it turns out to be none."""
    text = f"<function=f><parameter=a>see <tool_call>{PARIS_JSON}</tool_call> "
    assert found_in(text) == [text]
    assert found_in(f"{text}</parameter> z {CALL_TEXT}") == [f"{text}</parameter> z ", PARIS]


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "f", "arguments": {"a": "<function=get_time></function>',
        '<response>{"text": "<function=get_time></function>"}</response>',
        '{"name": "get_weather", "text": "<function=get_time></function>"}',
    ],
)
def test_nothing_in_a_string_is_a_call(text):
    """Neither where the end cuts the string off, nor where the JSON is proper but no call."""
    assert found_in(text) == [text]


# What models say.

MODEL_OUTPUTS = {
    "Qwen 2.5": (
        'I will look it up.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>',
        ["I will look it up.\n", PARIS],
    ),
    "Qwen 2.5, two calls": (
        f"<tool_call>\n{PARIS_JSON}\n</tool_call>\n<tool_call>\n{TIME_JSON}\n</tool_call>",
        [PARIS, TIME],
    ),
    "Phi-4-mini": (
        'functools[{"name": "book_flights", "arguments": {"to": "CDG"}}, {"name": "book_hotels", "arguments": {}}]',
        [Call("book_flights", '{"to":"CDG"}'), Call("book_hotels", "{}")],
    ),
    "Llama 3.2": ('{"name": "get_weather", "parameters": {"city": "Paris"}}', [PARIS]),
    "Llama 3.2, forced": ('{"type": "function", "name": "get_time", "parameters": {}}', [TIME]),
    "Foundry Local 1.x, forced": ('[{"name": "get_weather", "parameters": {"city": "Paris"}}]', [PARIS]),
    "Mistral": (
        '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}, "id": "VvvODy9mT"}]',
        [PARIS._replace(id="VvvODy9mT")],
    ),
    "Hermes": (
        '<tool_call>\n{"arguments": {"city": "Paris"}, "name": "get_weather"}\n</tool_call>\nOne moment.',
        [PARIS, "\nOne moment."],
    ),
    "Qwen3-coder": (
        "Well.\n\n<tool_call>\n<function=get_weather>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
        ["Well.\n\n", Call("get_weather", '{"days":3}')],
    ),
}


@pytest.mark.parametrize(("text", "found"), MODEL_OUTPUTS.values(), ids=MODEL_OUTPUTS)
def test_what_models_say(text, found):
    for size in range(1, len(text) + 1):
        assert extract(in_pieces(text, size)) == found


# Whitespace.


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f" \n{CALL_TEXT}", [PARIS]),
        (f"{CALL_TEXT}\n \r\n", [PARIS]),
        (f"{CALL_TEXT}\n\t{CALL_TEXT}", [PARIS, PARIS]),
        (f"{CALL_TEXT}\n z", [PARIS, "\n z"]),
        (f"z{CALL_TEXT} {PARIS_JSON}", ["z", PARIS, f" {PARIS_JSON}"]),
        (f"{CALL_TEXT} z {PARIS_JSON}", [PARIS, f" z {PARIS_JSON}"]),
        (f"{CALL_TEXT} {PARIS_JSON}", [PARIS, PARIS]),
        (f"{CALL_TEXT}\n <tool", [PARIS, "\n <tool"]),
        (f"{CALL_TEXT}\n <tool_call>{{x", [PARIS, "\n <tool_call>{x"]),
        (f'{CALL_TEXT}\n <tool_call>{{"x', [PARIS, '\n <tool_call>{"x']),
        (f"a \n{CALL_TEXT}", ["a \n", PARIS]),
        (f"{CALL_TEXT} a {CALL_TEXT} ", [PARIS, " a ", PARIS]),
        (f"{CALL_TEXT}\u00a0", [PARIS, "\u00a0"]),
        (f"functools[{PARIS_JSON}]}} ] z", [PARIS, " ] z"]),
        (f"{CALL_TEXT}]", [PARIS, "]"]),
        ("\n a", ["\n a"]),
    ],
)
def test_whitespace_goes_with_a_call_where_no_text_needs_it(text, found):
    assert found_in(text) == found


# Promptness: what each piece gives at once.


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([("a ", ["a "]), ("b ", ["b "])], id="text"),
        pytest.param([("\n", []), (" x", ["\n x"]), ("\n", ["\n"])], id="only whitespace at the beginning is held"),
        pytest.param([("<", []), ("b", ["<b"])], id="another tag"),
        pytest.param([("<tool_call>", []), (" \n", []), ("x", ["<tool_call> \nx"])], id="no JSON behind a marker"),
        pytest.param([("<tool_call>{", []), ("a", ["<tool_call>{a"])], id="no member behind a brace"),
        pytest.param([("<tool_call>" + " " * 64, []), (" ", ["<tool_call>" + " " * 65])], id="much white"),
        pytest.param([("<function=" + "n" * 200, []), ("n", ["<function=" + "n" * 201])], id="a long name"),
        pytest.param([("f", []), ("or", ["for"])], id="a word"),
        pytest.param([("functools", []), (".", ["functools."])], id="a module"),
        pytest.param([("functools[", []), ("1", ["functools[1"])], id="an index"),
        pytest.param([("x [", ["x "]), ("1", ["[1"])], id="a list behind text"),
        pytest.param([("x {", ["x {"]), ('"name": "get_weather"', ['"name": "get_weather"'])], id="JSON behind text"),
        pytest.param([("{", []), ('"a', ['{"a'])], id="JSON"),
        pytest.param([("[", []), ("{", []), ("1", ["[{1"])], id="a list"),
        pytest.param([('{ "name": "get_', []), ("x", ['{ "name": "get_x'])], id="another name"),
        pytest.param([('{"id": "1", "t', []), ("i", ['{"id": "1", "ti'])], id="an object with an id"),
        pytest.param([("<function=f>", []), ("x", ["<function=f>x"])], id="no parameter"),
        pytest.param([('<tool_call>{"name"', []), ("<", []), ("b", ['<tool_call>{"name"<b'])], id="a broken call"),
        pytest.param([(PARIS_JSON[:-1], []), ("}", [PARIS]), ("\n", []), ("z", ["\nz"])], id="a bare call"),
        pytest.param([(f"functools[{PARIS_JSON}", []), ("]", [PARIS]), ("}", []), ("z", ["z"])], id="functools"),
        pytest.param([(CALL_TEXT, [PARIS]), (" ", []), (CALL_TEXT, [PARIS])], id="call after call"),
        pytest.param([("<function=f>", []), ("</function>", [Call("f", "{}")])], id="a function"),
    ],
)
def test_nothing_is_held_longer_than_it_may_be_a_call(pieces):
    extractor = CallExtractor(TOOLS, limit=ROOMY)
    for piece, found in pieces:
        assert extractor.feed(piece) == found


# The limit.


@pytest.mark.parametrize(
    "text",
    [
        CALL_TEXT,
        f"functools[{PARIS_JSON}]",
        PARIS_JSON,
        "<function=get_weather><parameter=city>Paris</parameter></function>",
        f" \n{CALL_TEXT}",
    ],
)
def test_a_call_past_the_limit_is_text(text):
    assert PARIS in found_in(text, limit=len(text))
    if not text.startswith("{"):
        assert found_in(f"a z{text}", limit=len(text))[-1] == PARIS
    found = found_in(text.lstrip(), limit=len(text.lstrip()) - 1)
    assert found == [text.lstrip()]


def test_whitespace_counts():
    """Whitespace is held back like everything else, with the call or alone."""
    assert found_in(f"  {CALL_TEXT}", limit=len(CALL_TEXT)) == [f"  {CALL_TEXT}"]
    assert found_in(f"{' ' * 100}{CALL_TEXT}", limit=90) == [" " * 100, PARIS]
    assert found_in(f"{CALL_TEXT}    ", limit=3) == [f"{CALL_TEXT}    "]
    assert found_in(f"{TIME_JSON}{' ' * 60}", limit=50) == [TIME, " " * 60]


def test_nothing_in_what_is_past_the_limit_is_a_call():
    text = '<tool_call>{"a": "<function=get_time></function>" z'
    assert found_in(text, limit=len(text) - 1) == [text]


def test_a_call_behind_one_past_the_limit_is_found():
    large = f'<tool_call>{{"name": "f", "arguments": {{"a": "{"x" * 100}"}}}}</tool_call>'
    assert found_in(f"{large}{CALL_TEXT}", limit=90) == [large, PARIS]
    large = f"<function=f><parameter=a>{'x' * 100}</parameter></function>"
    assert found_in(f"{large}{CALL_TEXT}", limit=90) == [large, PARIS]


# Any text, any cut.

MARKERS = [f"<{slash}{tag}>" for tag in TAGS for slash in ("", "/")]
FRAGMENTS = [
    *MARKERS,
    *("<tool_call>", "</tool_call>", "<tool_", "</", "<", "func", "tools[", "functools[", "[TOOL_CALLS]", "[TOOL"),
    *("<function=get_weather>", "<function=", "</function>", "<parameter=city>", "<parameter=days>", "</parameter>"),
    *("{", "}", "[", "]", '"', ":", ",", "\\", '\\"', "1", "true", " ", "\n", "\t", "word", "é🌸", "f"),
    *('"name"', '"arguments"', '"id"', '"type": "function", ', '"function": {', '"name": "get_time"', '{"', '": {}'),
    *(PARIS_JSON, TIME_JSON, '{"name": "f"}', CALL_TEXT, f"functools[{TIME_JSON}]", '{"name": "get_time", "par'),
    "<function=get_time><parameter=a>\n1\n</parameter></function>",
]
texts = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), max_size=20).map("".join)
limits = st.sampled_from([0, 7, 30, 80, ROOMY])


@given(texts, st.lists(st.integers(0, 12), max_size=40), limits)
def test_output_does_not_depend_on_the_cuts(text, sizes, limit):
    whole = extract([text], limit)
    pieces, position = [], 0
    for size in sizes:
        pieces.append(text[position : position + size])
        position += size
    assert extract([*pieces, text[position:]], limit) == whole
    assert extract(text, limit) == whole


@given(texts, limits, st.integers(1, 9))
def test_nothing_is_lost_and_nothing_is_held_past_the_limit(text, limit, size):
    """Any text gives calls with proper arguments, and the text itself where there is no call."""
    extractor = CallExtractor(TOOLS, limit=limit)
    found, given_back, fed = [], 0, 0
    for piece in in_pieces(text, size):
        new = extractor.feed(piece)
        assert new == joined(new)
        assert "" not in new
        found += new
        fed += len(piece)
        given_back += sum(len(each) for each in new if isinstance(each, str))
        if not any(isinstance(each, Call) for each in found):
            assert fed - given_back <= limit
    found += extractor.finish()
    calls = [each for each in found if isinstance(each, Call)]
    for call in calls:
        assert call.name
        assert isinstance(json.loads(call.arguments), dict)
    if not calls:
        assert "".join(found) == text


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(MARKERS),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=6,
)
calls_made = st.tuples(st.sampled_from(list(TOOLS)), st.dictionaries(st.text(max_size=5), values, max_size=3))
plain_texts = st.sampled_from(["word. ", "1 < 2. ", "f(x)[0]. ", "<tool_call>. ", "functools. ", "{[ . ", "é🌸. "])


def as_json(call, *, indent):
    return json.dumps({"name": call[0], "arguments": call[1]}, indent=indent, ensure_ascii=not indent)


def written(calls, spelling, indent):
    objects = [as_json(call, indent=indent) for call in calls]
    if spelling in TAGS:
        return "\n".join((f"<{spelling}>", *objects, f"</{spelling}>"))
    return f"{spelling}[{', '.join(objects)}]"


@given(
    st.lists(
        plain_texts
        | st.tuples(
            st.lists(calls_made, min_size=1, max_size=2),
            st.sampled_from([*TAGS, "functools", "[TOOL_CALLS]", "[TOOL_CALLS] "]),
            st.sampled_from([None, 1]),
        ),
        max_size=6,
    ),
    st.integers(1, 30),
)
def test_calls_are_found_where_they_were_put(parts, size):
    """Texts stay, calls come out as they were made, in their places."""
    expected, text = [], ""
    for part in parts:
        if isinstance(part, str):
            expected.append(part)
            text += part
        else:
            expected += part[0]
            text += written(*part)
    found = extract(in_pieces(text, size))
    as_made = [(each.name, json.loads(each.arguments)) if isinstance(each, Call) else each for each in found]
    assert as_made == joined(expected)
