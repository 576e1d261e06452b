# ruff: noqa: RUF001 - the tokens of DeepSeek have characters that only look like ASCII
"""Tool calls written as text: every spelling, what only looks like one, and any cut."""

import itertools
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.core import call_text
from shim.core.call_forms import Call
from shim.core.call_text import CallScanner
from shim.core.dialects import DIALECTS, FIRST_TOKENS, LAST_TOKENS, Place
from support.call_columns import COLUMNS
from support.scanning import ROOMY, in_pieces, joined, scan, steps
from support.spellings import ROME, SCHEMAS, SPELLINGS

TOOLS = {
    **SCHEMAS,
    **{name: {} for name in ("add", "mul", "a", "b", "f")},
    "odd": {"properties": ["city"]},
    "create_schema": {"properties": {"type": {"type": "string"}, "properties": {"type": "object"}}},
    "look": {},
    "Look": {},
}
PARIS = Call("get_weather", '{"city":"Paris"}')
PARIS_JSON = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
TIME = Call("get_time", "{}")
TIME_JSON = '{"name": "get_time", "arguments": {}}'
CALL_TEXT = f"<tool_call>{PARIS_JSON}</tool_call>"
TAGS = ["tool_call", "tool_calls", "function_call", "tools", "response"]


def found_in(text, limit=ROOMY, tools=TOOLS):
    """What is found in the text, which must be the same whole, in small pieces and character by character."""
    whole = scan([text], tools, limit)
    for size in (1, 2, 7, 30):
        assert scan(in_pieces(text, size), tools, limit) == whole
    return whole[0]


# The cases that Microsoft's ToolCallStreamAccumulator is held to: the file tool_call_stream_accumulator_test.cc below
# sdk_v2/cpp/test in microsoft/Foundry-Local. Its case without markers has no counterpart: the markers are fixed here.


def test_an_empty_piece_gives_nothing():
    scanner = CallScanner(TOOLS, limit=ROOMY)
    assert scanner.feed("") == []
    assert scanner.feed("text") == ["text"]
    assert scanner.feed("") == []
    assert scanner.finish() == []


def test_plain_text_passes_as_it_is():
    assert scan(["Hello", ", ", "world!"], TOOLS)[0] == ["Hello, world!"]


def test_a_call_in_one_piece():
    text = 'prefix <tool_call>[{"name":"add","arguments":{"a":1,"b":2}}]</tool_call> Suffix'
    assert found_in(text) == ["prefix ", Call("add", '{"a":1,"b":2}'), " Suffix"]


def test_a_call_over_many_pieces():
    pieces = [
        *("before ", "<tool", "_call", ">", '[{"name":"mul","arg', 'uments":{"x":7,"y":6}}]', "</tool", "_call>"),
        " After",
    ]
    assert scan(pieces, TOOLS)[0] == ["before ", Call("mul", '{"x":7,"y":6}'), " After"]


def test_a_call_character_by_character():
    assert scan('<tool_call>{"name":"f","arguments":{}}</tool_call>', TOOLS)[0] == [Call("f", "{}")]


def test_two_calls_with_text_between():
    text = (
        '<tool_call>{"name":"a","arguments":{}}</tool_call> middle <tool_call>{"name":"b","arguments":{}}</tool_call>'
    )
    assert found_in(text) == [Call("a", "{}"), " middle ", Call("b", "{}")]


def test_the_start_of_a_marker_is_flushed_at_the_end():
    scanner = CallScanner(TOOLS, limit=ROOMY)
    assert scanner.feed("hello <too") == ["hello "]
    assert scanner.finish() == ["<too"]


def test_an_unfinished_call_is_flushed_at_the_end():
    scanner = CallScanner(TOOLS, limit=ROOMY)
    assert scanner.feed('prefix <tool_call>{"name":"get_time') == ["prefix "]
    assert scanner.finish() == ['<tool_call>{"name":"get_time']


def test_a_call_is_buffered_until_it_is_complete():
    scanner = CallScanner(TOOLS, limit=ROOMY)
    assert scanner.feed('<tool_call>{"name":"f"') == []
    assert scanner.feed(',"arguments":{}}</tool_call>') == [Call("f", "{}")]


def test_a_false_start_flows_once_it_is_seen_to_be_one():
    scanner = CallScanner(TOOLS, limit=ROOMY)
    assert scanner.feed("hello <tool") == ["hello "]
    assert scanner.feed("box>") == ["<toolbox>"]


# The spellings.


@pytest.mark.parametrize("text", [pytest.param(text, id=text) for dialect in DIALECTS for text in dialect.examples])
def test_every_example_of_the_table_is_a_call(text):
    (call,) = found_in(text)
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Paris"})


def test_every_row_of_the_table_is_among_the_spellings():
    """So each row is tested in every column."""
    texts = [spelling.write([ROME]) for spelling in SPELLINGS.values()]
    rows = {opening.lastgroup for text in texts for opening in call_text.OPENING.finditer(text)}
    assert rows >= {f"row{number}" for number, each in enumerate(DIALECTS) if each.place is Place.ANYWHERE}


def as_json(calls):
    """Names and arguments, such that `1` is not `true`."""
    return [(name, json.dumps(arguments)) for name, arguments in calls]


@pytest.mark.parametrize("column", COLUMNS.values(), ids=list(COLUMNS))
@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=list(SPELLINGS))
def test_columns(spelling, column):
    """Each spelling in each column: whole, in characters, and cut at random."""
    case = column(spelling)
    dice = random.Random(len(case.text))  # noqa: S311
    cuts = [[0, *sorted(dice.sample(range(len(case.text)), 5)), len(case.text)] for _ in range(20)]
    at_random = [[case.text[start:end] for start, end in itertools.pairwise(each)] for each in cuts]
    for pieces in ([case.text], list(case.text), *at_random):
        found, undeclared = scan(pieces, SCHEMAS)
        calls = [(each.name, json.loads(each.arguments)) for each in found if isinstance(each, Call)]
        assert as_json(calls) == as_json(case.calls)
        assert "".join(each for each in found if isinstance(each, str)) == case.content
        assert undeclared == 0


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
        pytest.param(f"{PARIS_JSON}; {TIME_JSON}", [PARIS, TIME], id="objects with a semicolon"),
        pytest.param(f"{PARIS_JSON}}}", [PARIS], id="a brace too many"),
        pytest.param(f"{PARIS_JSON}}}}}\n", [PARIS], id="two braces too many"),
        pytest.param(f"[{PARIS_JSON}}}]", [PARIS], id="a brace too many in a list"),
        pytest.param(f"[{PARIS_JSON}]]", [PARIS], id="a bracket too many"),
        pytest.param(f"{PARIS_JSON}}}\n{TIME_JSON}}}", [PARIS, TIME], id="a brace too many each"),
        pytest.param(PARIS_JSON[:-1], [PARIS], id="a brace too few"),
        pytest.param(f"[{PARIS_JSON[:-1]}]", [PARIS], id="a brace too few in a list"),
        pytest.param(f"[{PARIS_JSON}", [PARIS], id="a bracket too few"),
    ],
)
def test_tags(tag, inside, calls):
    """Each tag takes an object, a list, and objects one after another, and tolerates a wrong number of brackets."""
    assert found_in(f"a <{tag}>{inside}</{tag}> Z") == ["a ", *calls, " Z"]


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        pytest.param(f"functools[{PARIS_JSON}]", [PARIS], id="functools"),
        pytest.param(f"functools[ {PARIS_JSON},\n{TIME_JSON} ]", [PARIS, TIME], id="functools, two"),
        pytest.param(f"functools[{PARIS_JSON}}}]", [PARIS], id="functools, a brace too many"),
        pytest.param(f"functools[{PARIS_JSON}}}}}, {TIME_JSON}]", [PARIS, TIME], id="functools, and a call after"),
        pytest.param(f"functools[{PARIS_JSON}]]}}", [PARIS], id="functools, brackets too many"),
        pytest.param(f"[TOOL_CALLS][{PARIS_JSON}]", [PARIS], id="Mistral"),
        pytest.param(f"[TOOL_CALLS] [{PARIS_JSON}, {TIME_JSON}]", [PARIS, TIME], id="Mistral, two"),
        pytest.param(f"[TOOL_CALLS][{PARIS_JSON}]]", [PARIS], id="Mistral, a bracket too many"),
        pytest.param('[TOOL_CALLS]add[ARGS]{"a": 1}', [Call("add", '{"a":1}')], id="Mistral, name and arguments"),
        pytest.param("[TOOL_CALLS]f[CALL_ID]x1[ARGS]{}", [Call("f", "{}", "x1")], id="Mistral, with an id"),
    ],
)
def test_forms_that_end_with_a_bracket(text, calls):
    """They are complete with their bracket, and leave at once where no thought can end later."""
    assert found_in(f"a {text} Z") == ["a ", *calls, " Z"]
    scanner = CallScanner(TOOLS, limit=ROOMY)
    assert calls[-1] in scanner.feed(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (PARIS_JSON, [PARIS]),
        (f"\n \t{PARIS_JSON}\n", [PARIS]),
        (f"[{PARIS_JSON}]", [PARIS]),
        (f" [ {PARIS_JSON}, {TIME_JSON} ]", [PARIS, TIME]),
        (f"{PARIS_JSON}\n{TIME_JSON}", [PARIS, TIME]),
        (f"{PARIS_JSON}; {TIME_JSON}", [PARIS, TIME]),
        (f"{PARIS_JSON}}}}}", [PARIS]),
        (f"[{PARIS_JSON}}}]]", [PARIS]),
        (PARIS_JSON[:-1], [PARIS]),
        (f"{PARIS_JSON}<|eot_id|>", [PARIS]),
        (f"<|python_tag|>{PARIS_JSON}<|eom_id|>", [PARIS]),
        (f"<s>{PARIS_JSON}</s>", [PARIS]),
        (f"<|im_start|>assistant\n{PARIS_JSON}", [PARIS]),
        (f"{PARIS_JSON}\n</tool_call>", [PARIS]),
        (f"{PARIS_JSON}\nz", [PARIS, "\nz"]),
        (f"z\n{PARIS_JSON}", ["z\n", PARIS]),
        (f"z\n[{PARIS_JSON}]\n", ["z\n", PARIS]),
        ("[get_weather(city='Paris'), get_time()]", [PARIS, TIME]),
        ('z\n[get_weather(city="Paris")]', ["z\n", PARIS]),
        ('{"name":"get_weather","parameters":{"city":"Paris"}}', [PARIS]),
        ('{"name" : "get_weather" , "parameters" : {"city" : "Paris"} }', [PARIS]),
        ('{"type": "function", "name": "get_weather", "parameters": {"city": "Paris"}}', [PARIS]),
        ('{"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}', [PARIS]),
        ('{"function": "get_weather", "arguments": {"city": "Paris"}}', [PARIS]),
        ('{"function": {"name": "get_time", "arguments": {}}, "id": "c1"}', [TIME._replace(id="c1")]),
        ('{"id": "c1", "name": "get_time", "arguments": {}}', [TIME._replace(id="c1")]),
        (f'[{{"id": "c1", "type": "function", "function": {TIME_JSON}}}]', [TIME._replace(id="c1")]),
        (f'{{"tool_calls": [{PARIS_JSON}, {TIME_JSON}]}}', [PARIS, TIME]),
        (f'{{"tool_calls": [{PARIS_JSON}]', [PARIS]),
    ],
)
def test_calls_on_lines_of_their_own(text, found):
    """JSON and Python lists need no marker at the start of the message, nor as the last thing in it."""
    assert found_in(text) == found


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"z {PARIS_JSON}", id="after text on the line"),
        pytest.param(f"z [{PARIS_JSON}]", id="in a list after text on the line"),
        pytest.param(f"{PARIS_JSON} z", id="before text on the line"),
        pytest.param(f"{PARIS_JSON}, {TIME_JSON}: z", id="two before text on the line"),
        pytest.param(f"z\n{PARIS_JSON}\nz", id="between text"),
        pytest.param(f"- {PARIS_JSON}", id="in a list of Markdown"),
        pytest.param(f"> {PARIS_JSON}", id="in a block quote"),
        pytest.param(f"z\n\n    {PARIS_JSON}", id="indented code"),
        pytest.param(PARIS_JSON.replace("get_weather", "get_weathers"), id="unknown function"),
        pytest.param(PARIS_JSON.replace("get_weather", "get_"), id="start of a known one"),
        pytest.param('{"name": "get_weather"}', id="no arguments"),
        pytest.param('{"name": "get_weather", "arguments": ["Paris"]}', id="arguments in a list"),
        pytest.param('{"name": "get_weather", "arguments": "Paris"}', id="arguments that are text"),
        pytest.param('{"name": "get_weather", "arguments": {}, "result": "18"}', id="a record of a call"),
        pytest.param('{"thought": "hm", "name": "get_weather", "arguments": {}}', id="another field first"),
        pytest.param('{"name": "get_weather", "parameters": {}, "description": "d"}', id="a definition"),
        pytest.param('{"name": "get_weather", "parameters": {"city": {"type": "string"}}}', id="described parameters"),
        pytest.param('{"type": "admin", "name": "get_weather", "arguments": {}}', id="another type"),
        pytest.param('{"name": "get_weather", "arguments": {}, "parameters": {}}', id="arguments twice"),
        pytest.param(f'[{PARIS_JSON}, {{"name": "other", "arguments": {{}}}}]', id="one of them unknown"),
        pytest.param(f"[{PARIS_JSON}, 1]", id="one of them a number"),
        pytest.param(f"[[{PARIS_JSON}]]", id="a list in a list"),
        pytest.param(PARIS_JSON[:-2], id="two braces too few"),
        pytest.param('{"name": "get_weather", arguments: {}}', id="no JSON"),
        pytest.param('{"tool_calls": []}', id="no calls"),
        pytest.param(f'{{"tool_calls": [{PARIS_JSON}], "content": ""}}', id="calls and something else"),
        pytest.param(f'{{"role": "assistant", "tool_calls": [{PARIS_JSON}]}}', id="a message of a transcript"),
        pytest.param('{"city": "Paris"}', id="an object"),
        pytest.param("[1, 2]", id="a list"),
        pytest.param("{}", id="nothing"),
        pytest.param("  {", id="a brace"),
        pytest.param("[get_weather](https://example.com)", id="a link"),
        pytest.param("[get_weather('Paris')]", id="an argument without a name"),
        pytest.param("[get_weather(city=city)]", id="a variable"),
        pytest.param("[get_weather(city=get_time())]", id="a call in a call"),
        pytest.param("[get_weather(city='a' + 'b')]", id="an expression"),
        pytest.param("get_weather(city='Paris')", id="a Python call alone"),
        pytest.param("[get_weather(city='Paris'), x]", id="a name among Python calls"),
    ],
)
def test_what_stands_alone_and_is_not_a_call(text):
    assert found_in(text) == [text]


def test_a_call_of_the_longest_name():
    """OpenAI allows 64 characters."""
    name = "n" * 64
    assert found_in(json.dumps({"name": name, "arguments": {}}), tools={name: {}}) == [Call(name, "{}")]


# XML.


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
        pytest.param("<function=get_weather><parameter=city>Paris</parameter></tool_call>", id="without </function>"),
        pytest.param('<function=get_weather>{"city": "Paris"}</function>', id="with JSON"),
    ],
)
def test_xml(text):
    assert found_in(f"a {text} Z") == ["a ", PARIS, " Z"]


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>",
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>",
        "<function=get_weather>\n<parameter=city>\nParis\n</function>\n</tool_call>",
        "<function=get_weather>\n<parameter=city>\nParis\n</function><|im_end|>",
    ],
)
def test_xml_that_the_message_ends(text):
    assert found_in(text) == [PARIS]


def test_a_value_without_its_closing_ends_with_the_next_parameter():
    """Only where the function has such a parameter, and it was not given before."""
    call = Call("get_weather", '{"city":"Paris","days":3}')
    assert found_in("<function=get_weather><parameter=city>\nParis\n<parameter=days>3</parameter></function>") == [call]
    call = Call("get_weather", '{"city":"a<parameter=x>b<parameter=city>c"}')
    text = "<function=get_weather><parameter=city>a<parameter=x>b<parameter=city>c</parameter></function>"
    assert found_in(text) == [call]


def test_xml_several_functions():
    """In one tag, or one after another without any; also where the first is not closed."""
    one, other = "<function=get_weather><parameter=city>Paris</parameter></function>", "<function=get_time></function>"
    assert found_in(f"<tool_call>{one}\n{other}</tool_call>") == [PARIS, TIME]
    assert found_in(f"{one}\n{other}") == [PARIS, TIME]
    assert found_in(f"{one.removesuffix('</function>')}\n{other}") == [PARIS, TIME]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("city", "Paris", "Paris"),
        ("city", "12", "12"),
        ("city", "", ""),
        ("city", "\n\n Paris \n\n", "\n Paris \n"),
        ("city", "\n", ""),
        ("city", 'a "b" < c > </function> </tool_call> <tool_call>{"name":"f"}</tool_call> \\', None),
        ("unknown", "12", "12"),
        ("days", "3", 3),
        ("days", " 3\n", 3),
        ("days", "three", "three"),
        ("days", "NaN", "NaN"),
        ("days", "[" * 5000, "[" * 5000),
    ],
)
def test_xml_values(key, value, expected):
    """The declared type decides; one newline at either end belongs to the tags."""
    text = f"<function=get_weather><parameter={key}>{value}</parameter></function>"
    (call,) = found_in(text)
    assert json.loads(call.arguments) == {key: value if expected is None else expected}


def test_an_empty_value_of_a_number_is_left_out():
    assert found_in("<function=get_weather><parameter=days>\n</parameter></function>") == [Call("get_weather", "{}")]


@pytest.mark.parametrize("function", ["get_time", "odd"])
def test_xml_without_a_schema(function):
    """Where nothing is known of a parameter it is text."""
    text = f"<function={function}><parameter=city>1</parameter></function>"
    assert found_in(text) == [Call(function, '{"city":"1"}')]


# What an object looks like.


@pytest.mark.parametrize(
    ("object_", "call"),
    [
        pytest.param('{"name":"f","arguments":{"b":1,"a":[2, 3]}}', Call("f", '{"b":1,"a":[2,3]}'), id="order"),
        pytest.param('{"name":"f","parameters":{"a":1}}', Call("f", '{"a":1}'), id="parameters"),
        pytest.param('{"name":"f"}', Call("f", "{}"), id="no arguments"),
        pytest.param('{"name":"f","arguments":null}', Call("f", "{}"), id="null"),
        pytest.param('{"name":"f","arguments":""}', Call("f", "{}"), id="empty text"),
        pytest.param('{"name":"f","arguments":"{\\"a\\": 1}"}', Call("f", '{"a": 1}'), id="arguments as text"),
        pytest.param('{"arguments":{},"name":"f"}', Call("f", "{}"), id="name last"),
        pytest.param('{"name":"f","arguments":{},"id":"c1"}', Call("f", "{}", "c1"), id="id"),
        pytest.param('{"name":"f","arguments":{},"id":7}', Call("f", "{}"), id="id that is a number"),
        pytest.param('{"name":"f","arguments":{},"id":""}', Call("f", "{}"), id="empty id"),
        pytest.param('{"name":"f","arguments":{},"thought":"x"}', Call("f", "{}"), id="another field"),
        pytest.param(
            '{"type":"function","id":"c1","function":{"name":"f","arguments":"{\\"a\\":1}"}}',
            Call("f", '{"a":1}', "c1"),
            id="nested",
        ),
        pytest.param('{"function":{"name":"f"},"arguments":{"a":1}}', Call("f", '{"a":1}'), id="half nested"),
        pytest.param('{"name":"f","arguments":{"a":"é🌸\\u00fc"}}', Call("f", '{"a":"é🌸ü"}'), id="unescaped"),
        pytest.param('{"name":"f","arguments":{"a":"1\n2"}}', Call("f", '{"a":"1\\n2"}'), id="line break in a string"),
        pytest.param('{"name":"f","arguments":{"a":"\\ud83d"}}', Call("f", '{"a":"\\ud83d"}'), id="half an emoji"),
        pytest.param('{"name":"f","arguments":{"a":"It\\\'s"}}', Call("f", '{"a":"It\'s"}'), id="escaped apostrophe"),
        pytest.param(
            '{"name":"f","arguments":{"a":123456789012345678901234567890,"b":1.50,"c":1e400}}',
            Call("f", '{"a":123456789012345678901234567890,"b":1.50,"c":1e400}'),
            id="numbers keep their digits",
        ),
        pytest.param(
            '{"name":"f","arguments":{"a":"</tool_call>\\"}{[","b":"\\\\"}}',
            Call("f", '{"a":"</tool_call>\\"}{[","b":"\\\\"}'),
            id="marker and brackets in a string",
        ),
        pytest.param(
            "{'name': 'f', 'arguments': {'a': True, 'b': None}}", Call("f", '{"a":true,"b":null}'), id="Python"
        ),
        pytest.param(
            '{"name": "f", "arguments": {"a": True, "b": null,},}', Call("f", '{"a":true,"b":null}'), id="mixed"
        ),
        pytest.param('{"name":"functions.f","arguments":{}}', Call("f", "{}"), id="namespace"),
        pytest.param('{"name":"F","arguments":{}}', Call("f", "{}"), id="another case"),
        pytest.param('{"name":"f<|channel|>commentary","arguments":{}}', Call("f", "{}"), id="stuck tokens"),
        pytest.param('{"name":"look","arguments":{}}', Call("look", "{}"), id="one of two that differ in case"),
        pytest.param(
            '{"name":"create_schema","arguments":{"type":"object","properties":{"a":{"type":"string"}}}}',
            Call("create_schema", '{"type":"object","properties":{"a":{"type":"string"}}}'),
            id="a schema where one is declared",
        ),
    ],
)
def test_what_an_object_may_look_like(object_, call):
    assert found_in(f"<tool_call>{object_}</tool_call>") == [call]
    assert found_in(f"functools[{object_}]") == [call]


@pytest.mark.parametrize("name", ["日本 語", "get weather", "a.b"])
def test_any_declared_name(name):
    text = f"<tool_call>{json.dumps({'name': name, 'arguments': {}})}</tool_call>"
    assert found_in(text, tools={name: {}}) == [Call(name, "{}")]


# What is not a call.

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
    "<tool_call>true</tool_call>",
    "<tool_call><tool_call",
    "<tool_call><function>",
    '<tool_call>{"name": "f"</tool_call>',
    '<tool_call>{"name": "f"',
    '<tool_call>{"name": "f", "arguments": {"a": 1</tool_call>',
    '<tool_call>{"name": f}</tool_call>',
    '<tool_call>{"name": "f" \\"</tool_call>',
    '<tool_call>{"name": 1}</tool_call>',
    '<tool_call>{"name": null}</tool_call>',
    '<tool_call>{"name": ["f"], "arguments": {}}</tool_call>',
    '<tool_call>{"name": ""}</tool_call>',
    '<tool_call>{"name": "rm_rf", "arguments": {}}</tool_call>',
    '<tool_call>{"name": "LOOK", "arguments": {}}</tool_call>',
    '<tool_call>{"arguments": {}}</tool_call>',
    '<tool_call>{"function": {"name": "f", "arguments": {}}, "arguments": {"a": 1}}</tool_call>',
    '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
    '<tool_call>{"name": "f", "arguments": "no JSON"}</tool_call>',
    '<tool_call>{"name": "f", "arguments": "[1]"}</tool_call>',
    '<tool_call>{"name": "f", "arguments": false}</tool_call>',
    '<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>',
    '<tool_call>{"name": "f", "arguments": {"a": "\\q"}}</tool_call>',
    '<tool_call>{"name": "f", "arguments": {"a" 1}}</tool_call>',
    '<tool_call>[{"name": "f"}, 1]</tool_call>',
    '<tool_call>[{"name": "f"}, {"name": 1}]</tool_call>',
    '<tool_call>[{"name": "f"}, {"arguments": {}}]</tool_call>',
    '<tool_call>{"name": "f", "arguments": ' + '{"a":' * 2000 + "1" + "}" * 2001 + "</tool_call>",
    '<tool_call>{"name": "f", "arguments": {"type": "object", "properties": {}}}</tool_call>',
    '<tool_call>{"name": "f", "parameters": {"a": {"type": "string", "description": "d"}}}</tool_call>',
    '<response>{"name": "Bob", "age": 3}</response>',
    '<response>{"name": "f"}</response>',
    '<tools>{"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}}</tools>',
    '<tools>[{"name": "hammer"}]</tools>',
    "functools",
    "functools[",
    "functools[]",
    "functools[functools[x",
    "functools [",
    'functools[{"name": "f"',
    'functools[{"name": "f"}; {"name": "f"}]',
    "import functools\nfunctools.wraps",
    "[TOOL_CALLS]",
    "[TOOL_CALLS][TOOL_CALLS][",
    "[TOOL_CALLS] nothing",
    "[TOOL_CALLS]rm_rf[ARGS]{}",
    "[TOOL_CALLS]f[ARGS][]",
    "<function=",
    "<function=f",
    "<function= f></function>",
    "<function=foo></function>",
    "<function=f>",
    "<function=f> text",
    "<function=f><parameter=>",
    "<function=f><parameter=a>1",
    "<function=f><parameter=a>1</parameter> text",
    "<function_calls>\nf(\n",
    "<|tool_call_start|>[f(]",
    "<|channel|>commentary to=functions.rm_rf<|message|>{}<|call|>",
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n{}",
    "```json\n",
    "```json\n{}\n```",
    "~~~",
    "<think",
    " \n ",
    "text \n ",
]


@pytest.mark.parametrize("text", FALSE_STARTS)
def test_what_is_not_a_call_stays_as_it_is(text):
    assert found_in(text) == [text]
    assert found_in(f"a {text}") == [f"a {text}"]
    assert found_in(f"{text}. z") == [f"{text}. z"]


@pytest.mark.parametrize(
    ("text", "undeclared"),
    [
        ('<tool_call>{"name": "rm_rf", "arguments": {}}</tool_call>', 1),
        ('<tool_call>[{"name": "f"}, {"name": "rm_rf"}]</tool_call>', 1),
        ("<function=foo></function>", 1),
        ("[TOOL_CALLS]rm_rf[ARGS]{}", 1),
        ("<|tool_call_start|>[rm_rf()]<|tool_call_end|>", 1),
        (CALL_TEXT, 0),
        # These openings have other uses.
        ('<response>{"name": "Alice"}</response>', 0),
        ('{"name": "rm_rf", "arguments": {}}', 0),
        ("`<function=foo></function>`", 0),
    ],
)
def test_a_delimited_call_of_no_declared_function_is_counted(text, undeclared):
    assert scan([text], TOOLS)[1] == scan(text, TOOLS)[1] == undeclared


@pytest.mark.parametrize(
    "text",
    [
        "<tool_",
        "<tool_call>{",
        "functools[",
        "[TOOL_CALLS][",
        "<function=f>",
        '<tool_call>{"name": "f}</tool_call>',
        '<tool_call>{"arguments": {}}</tool_call>',
        'functools[{"name": "f',
        '[TOOL_CALLS] [{"name": "f"',
        '{"name": "get_weather", "arguments"',
        "[get_weather(",
        "```",
    ],
)
def test_a_broken_call_does_not_hide_the_next_one(text):
    text += "\n```\n" if text == "```" else "\n"
    assert found_in(f"{text}<tools>{PARIS_JSON}</tools>") == [text, PARIS]


def test_nothing_in_the_value_of_a_parameter_is_a_call():
    """Not even where the call around it turns out to be none."""
    text = f"<function=f><parameter=a>see <tool_call>{PARIS_JSON}</tool_call> "
    assert found_in(text) == [text]


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "f", "arguments": {"a": "<function=get_time></function>',
        '<response>{"text": "<function=get_time></function>"}</response>',
        '{"name": "get_weather", "text": "<function=get_time></function>"}',
        '{"text": "say \\"<function=get_time></function>\\""}',
    ],
)
def test_nothing_in_a_string_is_a_call(text):
    """Neither where the end cuts the string off, nor where the JSON is proper but not a call."""
    assert found_in(text) == [text]


# Quotations.


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"Like this:\n```\n{CALL_TEXT}\n```\n", id="a fence"),
        pytest.param(f"Like this:\n```xml\n{CALL_TEXT}\n```\nDone.", id="a fence of a language"),
        pytest.param(f"Like this:\n\n~~~\n{CALL_TEXT}\n~~~", id="a fence of tildes"),
        pytest.param(f"Like this: ```{CALL_TEXT}```", id="a fence on one line"),
        pytest.param(f"Like this:\n````\n```\n{CALL_TEXT}\n```\n````\n", id="a fence in a fence"),
        pytest.param(f"Like this:\n```\na = '```'\n{CALL_TEXT}\n```\n", id="backticks within a fence"),
        pytest.param(f"- Like this:\n  ```\n  {CALL_TEXT}\n  ```", id="a fence in a list"),
        pytest.param(f"Like this:\n```json\n{PARIS_JSON}\n```", id="a fence at the end"),
        pytest.param(f"```json\n{PARIS_JSON}\n```\nDone.", id="a fence at the start"),
        pytest.param(f"```json\n{PARIS_JSON}\n# Done.\n```", id="a fence with something else in it"),
        pytest.param(f"```json\n{PARIS_JSON}\n```\n```python\nprint()\n```", id="two fences, one of code"),
        pytest.param(f"Write `{CALL_TEXT}`.", id="backticks"),
        pytest.param(f"Write ``{CALL_TEXT}``.", id="two backticks"),
        pytest.param(f"Write `a\n{CALL_TEXT}`.", id="backticks over lines"),
        pytest.param(f'Write "{CALL_TEXT}".', id="quotation marks"),
        pytest.param(f'He says "write {CALL_TEXT} there".', id="within a quotation"),
        pytest.param(f"Write '{CALL_TEXT}'.", id="single quotation marks"),
        pytest.param(f"He says 'write {CALL_TEXT}'.", id="within a single quotation"),
        pytest.param(f"Write “{CALL_TEXT}”.", id="typographic quotation marks"),
        pytest.param(f"Schreibe „{CALL_TEXT}“.", id="German quotation marks"),
        pytest.param(f"Écris « {CALL_TEXT} ».", id="French quotation marks"),
        pytest.param(f"> {CALL_TEXT}\n", id="a block quote"),
        pytest.param(f"a\n\n\t{CALL_TEXT}\n", id="indented code"),
        pytest.param(f"a <think>{CALL_TEXT}</think>", id="a thought"),
        pytest.param(f"a <think>{CALL_TEXT}", id="an open thought"),
        pytest.param(f"a {CALL_TEXT} b</think>c", id="a thought without its start"),
        pytest.param(f"a\n{PARIS_JSON}\n</think>c", id="bare JSON in a thought without its start"),
    ],
)
def test_what_is_quoted_stays_text(text):
    assert found_in(text) == [text]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(f"It's here: {CALL_TEXT}", None, id="an apostrophe"),
        pytest.param(f"don't, 'a' {CALL_TEXT}", None, id="a closed quotation"),
        pytest.param(f'"a" {CALL_TEXT}', None, id="closed quotation marks"),
        pytest.param(f'6" wide\n{CALL_TEXT}', None, id="a quotation mark on another line"),
        pytest.param(f"`a` {CALL_TEXT}", None, id="closed backticks"),
        pytest.param(f"a ` b\n\n{CALL_TEXT}", None, id="a backtick in another paragraph"),
        pytest.param(f"```\na\n```\n{CALL_TEXT}", None, id="after a fence"),
        pytest.param(f"```\na\n``` \n{CALL_TEXT}", None, id="after a fence with a blank"),
        pytest.param(f"> a\n{CALL_TEXT}", None, id="after a block quote"),
        pytest.param(f"a -> {CALL_TEXT}", None, id="an arrow"),
        pytest.param(f"~~a~~ {CALL_TEXT}", None, id="strikethrough"),
        pytest.param(f"a</think>{CALL_TEXT}", None, id="after a thought without its start"),
        pytest.param(f"a <think>b</think>{CALL_TEXT}", None, id="after a thought"),
        pytest.param(f"a\n</think>\n\n{PARIS_JSON}", ["a\n</think>", PARIS], id="bare JSON after a thought"),
        pytest.param(f"a</think>\n```\n{PARIS_JSON}\n```", ["a</think>", PARIS], id="a fence after a thought"),
    ],
)
def test_what_is_not_quoted_is_a_call(text, found):
    assert found_in(text) == (found or [text.removesuffix(CALL_TEXT), PARIS])


@pytest.mark.parametrize(
    "text",
    [
        f"```\n{PARIS_JSON}\n```",
        f"```json\n{PARIS_JSON}\n```\n",
        f"\n```json\n[{PARIS_JSON}]\n```<|im_end|>",
        f"```tool_call\n{PARIS_JSON}\n",
        f"```xml\n{CALL_TEXT}\n```",
        "```python\n[get_weather(city='Paris')]\n```",
        f"~~~~\n{PARIS_JSON}\n~~~~",
        f"```json {PARIS_JSON}```",
        f"<tool_call>\n```json\n{PARIS_JSON}\n```\n</tool_call>",
    ],
)
def test_a_fence_that_is_the_whole_message_is_a_call(text):
    assert found_in(text) == [PARIS]


def test_several_fences_may_be_the_whole_message():
    text = f"```json\n{PARIS_JSON}\n```\n\n```json\n{TIME_JSON}\n```"
    assert found_in(text) == [PARIS, TIME]
    assert found_in(f"{text}\nz") == [f"{text}\nz"]


# Thoughts.


def test_a_call_after_text_waits_for_the_end_of_a_thought():
    """Text before it may be a thought without its start; at the end of the message it was none."""
    scanner = CallScanner(TOOLS, limit=ROOMY)
    assert scanner.feed("a ") == ["a "]
    assert scanner.feed(f"{CALL_TEXT} B") == []
    assert scanner.finish() == [PARIS, " B"]


def test_a_call_after_text_does_not_wait_where_no_thought_can_end():
    scanner = CallScanner(TOOLS, limit=ROOMY)
    scanner.settle()
    assert scanner.feed("a ") == ["a "]
    assert scanner.feed(f"{CALL_TEXT} B") == [PARIS, " B"]


def test_the_end_of_a_thought_is_text_where_no_thought_can_end():
    scanner = CallScanner(TOOLS, limit=ROOMY)
    scanner.settle()
    assert scanner.feed(f"a {CALL_TEXT}</think>b") == ["a ", PARIS, "</think>b"]


def test_only_the_first_end_of_a_thought_counts():
    assert found_in(f"a</think>b {CALL_TEXT} C</think>") == ["a</think>b ", PARIS, " C</think>"]


# Beside structured calls.


@pytest.mark.parametrize("left", ["<tool_call>", "<tool_call>\n", "[TOOL_CALLS]", "<|tool_call|>"])
def test_an_opening_left_beside_a_structured_call_goes(left):
    for before in ("", "a "):
        scanner = CallScanner(TOOLS, limit=ROOMY)
        assert scanner.feed(before + left) == ([before] if before else [])
        scanner.note_structured_call()
        found = scanner.finish()
        assert "".join(found).strip() == ""


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
    "Qwen 2.5, one of two closed": (
        f"<tool_call>\n{PARIS_JSON}\n<tool_call>\n{TIME_JSON}\n</tool_call>",
        [PARIS, TIME],
    ),
    "Qwen 2.5, opened twice": (f"<tool_call>\n<tool_call>\n{PARIS_JSON}\n</tool_call>", [PARIS]),
    "Qwen 2.5, closed twice": (f"<tool_call>\n{PARIS_JSON}\n</tool_call>\n</tool_call><|im_end|>", [PARIS]),
    "Qwen 2.5, closed with its opening": (f"<tool_call>\n{PARIS_JSON}\n<tool_call>", [PARIS]),
    "Phi-4-mini": (f"functools[{PARIS_JSON}, {TIME_JSON}]", [PARIS, TIME]),
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
    "DeepSeek, one of two broken": (
        (
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{x}\n```<｜tool▁call▁end｜>"
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_time\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
        ),
        [
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{x}\n```<｜tool▁call▁end｜>",
            TIME,
        ],
    ),
    "OLMo 3, a long string": (
        '<function_calls>f(a="""x\n"y" \\d""")</function_calls>',
        [Call("f", '{"a":"x\\n\\"y\\" \\\\d"}')],
    ),
}


@pytest.mark.parametrize(("text", "found"), MODEL_OUTPUTS.values(), ids=MODEL_OUTPUTS)
def test_what_models_say(text, found):
    for size in range(1, len(text) + 1):
        assert scan(in_pieces(text, size), TOOLS)[0] == found


# White space.


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f" \n{CALL_TEXT}", [PARIS]),
        (f"{CALL_TEXT}\n \r\n", [PARIS]),
        (f"{CALL_TEXT}\n\t{CALL_TEXT}", [PARIS, PARIS]),
        (f"{CALL_TEXT}\n z", [PARIS, "\n z"]),
        (f"z{CALL_TEXT} {PARIS_JSON}", ["z", PARIS, PARIS]),
        (f"{CALL_TEXT} z {PARIS_JSON}", [PARIS, f" z {PARIS_JSON}"]),
        (f"{CALL_TEXT} {PARIS_JSON}", [PARIS, PARIS]),
        (f"{CALL_TEXT}\n <tool", [PARIS, "\n <tool"]),
        (f"{CALL_TEXT}\n <tool_call>{{x", [PARIS, "\n <tool_call>{x"]),
        (f'{CALL_TEXT}\n <tool_call>{{"x', [PARIS, '\n <tool_call>{"x']),
        (f"a \n{CALL_TEXT}", ["a \n", PARIS]),
        (f"{CALL_TEXT} a {CALL_TEXT} ", [PARIS, " a ", PARIS]),
        (f"{CALL_TEXT}\u00a0", [PARIS, "\u00a0"]),
        (f"{CALL_TEXT}, z", [PARIS, ", z"]),
        (f"functools[{PARIS_JSON}]}} ] z", [PARIS, " ] z"]),
        (f"{CALL_TEXT}]", [PARIS, "]"]),
        ("\n a", ["\n a"]),
        (f"\n{PARIS_JSON} z", [f"\n{PARIS_JSON} z"]),
    ],
)
def test_white_space_goes_with_a_call_where_no_text_needs_it(text, found):
    assert found_in(text) == found


# Promptness: what each piece gives at once.


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([("a ", ["a "]), ("b ", ["b "])], id="text"),
        pytest.param([("\n", []), (" x", ["\n x"]), ("\n", ["\n"])], id="only white space at the start is buffered"),
        pytest.param([("<", []), ("b", []), (">", ["<b>"])], id="another tag"),
        pytest.param([("<tool_call>", []), (" \n", []), ("!", ["<tool_call> \n!"])], id="no JSON after a marker"),
        pytest.param([("<tool_call>{", []), ("a", ["<tool_call>{a"])], id="no field after a brace"),
        pytest.param([('<tool_call>{"', []), ("x", ['<tool_call>{"x'])], id="a field that calls do not have"),
        pytest.param([('<response>{"an', ['<response>{"an']), ("s", ["s"])], id="an answer in a tag"),
        pytest.param([('<response>{"name": "', []), ("Al", ['<response>{"name": "Al'])], id="a name in a tag"),
        pytest.param([("<function=" + "n" * 100, []), ("n", ["<function=" + "n" * 101])], id="a long name"),
        pytest.param([("<function=foo>", []), ("<", ["<function=foo>"])], id="an undeclared function"),
        pytest.param([("f", []), ("or", ["for"])], id="a word"),
        pytest.param([("functools", []), (".", ["functools."])], id="a module"),
        pytest.param([("functools[", []), ("1", ["functools[1"])], id="an index"),
        pytest.param([("x [", ["x "]), ("1", ["[1"])], id="a list after text"),
        pytest.param([("x {", ["x {"]), ('"name": "get_weather"', ['"name": "get_weather"'])], id="JSON after text"),
        pytest.param([("x\n{", ["x\n"]), ('"x', ['{"x'])], id="JSON on its own line after text"),
        pytest.param([("{", []), ('"a', []), ("b", ['{"ab'])], id="JSON"),
        pytest.param([("[", []), ("{", []), ("1", ["[{1"])], id="a list"),
        pytest.param([("[get", []), ("x", ["[getx"])], id="a list of names"),
        pytest.param([('{ "name": "get_', []), ("x", ['{ "name": "get_x'])], id="another name"),
        pytest.param([('{"id": "1", "t', []), ("i", ['{"id": "1", "ti'])], id="an object with an id"),
        pytest.param([("<function=f>", []), ("x", ["<function=f>x"])], id="no parameter"),
        pytest.param([('<tool_call>{"name"', []), ("<", ['<tool_call>{"name"']), ("1", ["<1"])], id="a broken call"),
        pytest.param([("<tool_call>", []), (PARIS_JSON, [PARIS])], id="a call without its end"),
        pytest.param([(PARIS_JSON, []), ("\n", [PARIS]), ("z", ["\nz"])], id="a bare call"),
        pytest.param([(f"functools[{PARIS_JSON}", []), ("]", [PARIS]), ("}", []), ("z", ["z"])], id="functools"),
        pytest.param([(CALL_TEXT, [PARIS]), (" ", []), (CALL_TEXT, [PARIS])], id="call after call"),
        pytest.param([("<function=f>", []), ("</function>", [Call("f", "{}")])], id="a function"),
        pytest.param([("```json\n", []), ('{"', []), ("x", ['```json\n{"x'])], id="a fence of other JSON"),
        pytest.param([("```", []), ("py\n", []), ("x", ["```py\nx"]), ("<tool_call>", ["<tool_call>"])], id="a fence"),
        pytest.param([("a `", ["a `"]), ("<tool_call>", ["<tool_call>"])], id="backticks"),
    ],
)
def test_nothing_is_buffered_longer_than_it_may_be_a_call(pieces):
    scanner = CallScanner(TOOLS, limit=ROOMY)
    for piece, found in pieces:
        assert scanner.feed(piece) == found


PLAIN_PIECES = [
    "word",
    " of",
    " a",
    "'s",
    "\n",
    '"',
    "`",
    "```",
    " <b>",
    "[1]",
    "x (",
    "é",
    " - ",
    "**",
    "f",
    "\\",
    "> ",
    "{",
]


@given(
    st.lists(st.sampled_from(PLAIN_PIECES), max_size=12),
    st.sampled_from(PLAIN_PIECES),
    st.sampled_from([CALL_TEXT, "z"]),
)
def test_a_piece_that_passes_changes_nothing(before, piece, after):
    """The fast path takes such a piece past the scanner."""
    scanner, other = CallScanner(TOOLS, limit=ROOMY), CallScanner(TOOLS, limit=ROOMY)
    for each in before:
        assert scanner.feed(each) == other.feed(each)
    if scanner.passes(piece):
        assert other.feed(piece) == [piece]
        assert other.passes(piece)
        assert scanner.feed(after) + scanner.finish() == other.feed(after) + other.finish()


# The limit.


@pytest.mark.parametrize(
    "text",
    [
        CALL_TEXT.removesuffix("</tool_call>"),
        f"functools[{PARIS_JSON}]",
        PARIS_JSON,
        "<function=get_weather><parameter=city>Paris</parameter></function>",
        f" \n{CALL_TEXT.removesuffix('</tool_call>')}",
    ],
)
def test_a_call_past_the_limit_is_text(text):
    assert PARIS in found_in(text, limit=len(text))
    assert found_in(text.lstrip(), limit=len(text.lstrip()) - 1) == [text.lstrip()]


def test_white_space_counts():
    """White space is buffered like everything else, with the call or alone."""
    text = CALL_TEXT.removesuffix("</tool_call>")
    assert found_in(f"  {text}", limit=len(text)) == [f"  {text}"]
    assert found_in(f"{CALL_TEXT}    ", limit=3) == [f"{CALL_TEXT}    "]


def test_what_waits_for_the_end_of_a_thought_counts():
    text = f"a {CALL_TEXT}{'X' * 100}"
    assert found_in(text, limit=200) == ["a ", PARIS, "X" * 100]
    assert found_in(text, limit=100) == [text]


def test_nothing_in_what_is_past_the_limit_is_a_call():
    text = '<tool_call>{"name": "<function=get_time></function>" z'
    assert found_in(text, limit=30) == [text]


def test_a_call_after_one_past_the_limit_is_found():
    large = f'<tool_call>{{"name": "f", "arguments": {{"a": "{"x" * 100}"}}}}</tool_call>'
    assert found_in(f"{large}\n{CALL_TEXT}", limit=90) == [f"{large}\n", PARIS]
    large = f"<function=f><parameter=a>{'x' * 100}</parameter></function>"
    assert found_in(f"{large}\n{CALL_TEXT}", limit=90) == [f"{large}\n", PARIS]


# Any text, any cut.

EXAMPLES = [text for dialect in DIALECTS for text in dialect.examples]
FRAGMENTS = [
    *EXAMPLES,
    *(text[: len(text) * part // 4] for text in EXAMPLES for part in (1, 2, 3)),
    *FIRST_TOKENS,
    *LAST_TOKENS,
    *(
        "<tool_call>",
        "</tool_call>",
        "<tool_",
        "</",
        "<",
        "func",
        "functools[",
        "[TOOL_CALLS]",
        "[TOOL",
        "<think>",
        "</think>",
    ),
    *("<function=get_weather>", "<function=", "</function>", "<parameter=city>", "<parameter=days>", "</parameter>"),
    *("<a>", "</a>", "<b ", "</b", "**", "*", "__", "~~", "$$", "----", "----\n", "....\n", "====", "- ", "1. ", "# "),
    *("| ", "User: a\n", "Assistant: ", "**AI:**", "12:00 ", "INFO", "\u201c", "\u201d", "\u00bb", '#"', '"#', 'R"('),
    *(')"', "<<A\n", "\nA\n", "<<'EOF'\n", "\nEOF", "word ", "word. ", ". Word", " and ", "print(", CALL_TEXT),
    *(
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        '"',
        "'",
        ":",
        ",",
        ";",
        "=",
        "\\",
        '\\"',
        "1",
        "true",
        " ",
        "\n",
        "\t",
        "word",
        "é🌸",
        "f",
    ),
    *('"name"', '"arguments"', '"id"', '"type": "function", ', '"function": {', '"name": "get_time"', '{"', '": {}'),
    *(
        "```",
        "```json\n",
        "~~~\n",
        "`",
        "``",
        "> ",
        "    ",
        "“",
        "”",
        "don't",
        "get_time(",
        "<|channel|>",
        "<|message|>",
    ),
    *(PARIS_JSON, TIME_JSON, '{"name": "f"}', CALL_TEXT, f"functools[{TIME_JSON}]", '{"name": "get_time", "par'),
]
texts = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), max_size=20).map("".join)
limits = st.sampled_from([0, 7, 30, 80, ROOMY, ROOMY, ROOMY])


@given(texts, st.lists(st.integers(0, 12), max_size=40), limits)
def test_output_does_not_depend_on_the_cuts(text, sizes, limit):
    whole = scan([text], TOOLS, limit)
    pieces, position = [], 0
    for size in sizes:
        pieces.append(text[position : position + size])
        position += size
    assert scan([*pieces, text[position:]], TOOLS, limit) == whole
    assert scan(text, TOOLS, limit) == whole


@given(texts, limits, st.integers(1, 9))
def test_nothing_is_lost_and_nothing_is_buffered_past_the_limit(text, limit, size):
    """Any text gives calls of declared functions with proper arguments, and the text itself where there is no call."""
    scanner = CallScanner(TOOLS, limit=limit)
    found, given_back, fed = [], 0, 0
    for piece in in_pieces(text, size):
        new = scanner.feed(piece)
        assert new == joined(new)
        assert "" not in new
        found += new
        fed += len(piece)
        given_back += sum(len(each) for each in new if isinstance(each, str))
        if not any(isinstance(each, Call) for each in found):
            assert fed - given_back <= limit
    found += scanner.finish()
    calls = [each for each in found if isinstance(each, Call)]
    for call in calls:
        assert call.name in TOOLS
        assert isinstance(json.loads(call.arguments), dict)
    if not calls:
        assert "".join(found) == text


@given(texts)
def test_text_without_a_call_of_a_declared_function_leaves_to_the_character(text):
    assert "".join(scan(text, {"nobody_writes_this": {}})[0]) == text


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["</tool_call>", "```", "</think>"]),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=6,
)
calls_made = st.tuples(st.sampled_from(["a", "get_time"]), st.dictionaries(st.text(max_size=5), values, max_size=3))
plain_texts = st.sampled_from(["word. ", "1 < 2. ", "f(x)[0]. ", "<tool_call>. ", "functools. ", "{[ . ", "é🌸. "])


def written(calls, spelling, indent):
    objects = [
        json.dumps({"name": call[0], "arguments": call[1]}, indent=indent, ensure_ascii=not indent) for call in calls
    ]
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
    found, _ = scan(in_pieces(text, size), TOOLS)
    as_made = [(each.name, json.loads(each.arguments)) if isinstance(each, Call) else each for each in found]
    assert as_made == joined(expected)


# Linear time, by the characters that are visited and the calls that are made.

UNITS = [
    *dict.fromkeys(
        each.opening.replace("{name}", "get_weather").replace("{id}", "x") for each in DIALECTS if each.opening
    ),
    *(f'<tool_call>{{"name": "get_weather", "arguments": {{"city": {quote}' for quote in "\"'"),
    *("<function=get_weather><parameter=city>", "<parameter=city>", "</parameter", '{"name": "', '[{"name": "'),
    *("[get_weather(city='", "`", "```json\n", "~~~\n", '"', "'", "\n", " ", "<think>", "</think>", "> ", "word ", "f"),
    *("<!--", "<code>", "</code>", "<code>\n\n", "[THINK]", "[/THINK]", "\\verb|", "#+begin_src", "+<", "-<", "::"),
    *("a::\n <", "a: |\n  ", "# ", "\ufeff", '"' * 3, "'" * 3, "<<EOF\n", "<<", "<|im_start|>user", ".\n <"),
    *("<a>", "</a>", f"<a>{CALL_TEXT}</a>", f"<b></b>{CALL_TEXT}", "----\n", "----", "**", f"**{CALL_TEXT}**"),
    *(f"- {CALL_TEXT}\n- functools[{PARIS_JSON}]\n", "- a\n", f"- a\n    {CALL_TEXT}\n", "\u00bb"),
    *(f"- {CALL_TEXT}\n", "User: a\n", "Assistant: a\n", '#"', "##", 'R"(', "<<A\n", "</parameter>", "print("),
    "</parameter>\n</function>",
    *("]", "}", "[", "{", "(", "\\", '\\"', "é", ";", "1", "<s>", CALL_TEXT, f"a {CALL_TEXT}", f"{PARIS_JSON}\n"),
]
SLACK = 300
"""Steps: what a cut at another place within the unit may cost."""
HEADS = [
    *("", f"a {CALL_TEXT} ", '<tool_call>{"name": "get_weather", "arguments": {"city": "', "```json\n"),
    *("<a>", f"<a>{CALL_TEXT}<b>", "```tool_code\nprint(", "<function=get_weather><parameter=city><parameter=x>"),
    *("<function=get_weather><parameter=city>", f"```json\n{PARIS_JSON}", "[get_weather(city='", "a\n{"),
    f"- {CALL_TEXT}\n",
]


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(ROOMY, id="at once"),
        pytest.param(1, id="in characters", marks=pytest.mark.extended),
        pytest.param(7, id="in pieces", marks=pytest.mark.extended),
    ],
)
@pytest.mark.parametrize("unit", UNITS)
def test_twice_the_text_takes_twice_the_steps(unit, size):
    """The unit again and again, alone and after something that is still open."""
    times = max(4, 100 // len(unit))
    for head in HEADS:
        few, many = (steps(in_pieces(head + unit * times * n, size), SCHEMAS) for n in (2, 4))
        assert many <= 2.2 * few + SLACK
