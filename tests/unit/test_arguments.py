"""Names and arguments of calls as a program can use them, and the literals that they are read from."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.core.arguments import DeclaredNames, is_definition, normalize, types_of
from shim.core.literals import MOST_NESTED, LiteralReader, UnreadableError, read_literal

SCHEMA = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "whole": {"type": "integer"},
        "number": {"type": "number"},
        "flag": {"type": "boolean"},
        "list": {"type": "array"},
        "object": {"type": "object"},
        "nothing": {"type": "null"},
        "maybe_text": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "maybe_whole": {"type": ["integer", "null"]},
        "nullable": {"type": "integer", "nullable": True},
        "unit": {"enum": ["c", "f"]},
        "level": {"enum": [1, 2, 3]},
        "two": {"oneOf": [{"type": "number"}, {"type": "object"}]},
        "const": {"const": 7},
        "any": {},
        "python": {"type": "dict"},
        "defined": {"$ref": "#/$defs/Place"},
        "circle": {"$ref": "#/$defs/Circle"},
        "broken": {"anyOf": 1},
    },
    "$defs": {"Place": {"type": "object"}, "Circle": {"anyOf": [{"$ref": "#/$defs/Circle"}, {"type": "integer"}]}},
}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"text": "a",  "whole":1}', '{"text": "a",  "whole":1}'),
        ('{"number": 1.50, "whole": 123456789012345678901234567890}', None),
        ('{"text": "\\ud83d", "number": 1.50}', None),
        ({"text": "a"}, '{"text":"a"}'),
        ({}, "{}"),
        (None, "{}"),
        ("", "{}"),
        (" \n", "{}"),
        ("null", "{}"),
        ("None", "{}"),
        ('"{\\"whole\\": 1}"', '{"whole": 1}'),
        ('"\\"{}\\""', ""),
        ("{'text': 'a', 'flag': True, 'any': None}", '{"text":"a","flag":true,"any":null}'),
        ("{'number': 1.50}", '{"number":1.50}'),
        ('{"text": "a",}', '{"text":"a"}'),
        ("[1]", ""),
        ("1", ""),
        ("text", ""),
        ('{"a": 1', ""),
        ('{"a": 1} {"b": 2}', ""),
        ([1], ""),
        (1, ""),
    ],
)
def test_arguments_are_the_text_of_an_object(arguments, text):
    """None stands for the very text that was given, nothing for what is not an object."""
    expected = arguments if text is None else text or None
    assert normalize(arguments, SCHEMA) == expected
    if expected:
        assert isinstance(json.loads(expected), dict)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("text", "12", "12"),
        ("text", "", ""),
        ("text", "null", "null"),
        ("text", 12, "12"),
        ("text", True, True),
        ("text", None, None),
        ("text", [1], [1]),
        ("whole", "12", 12),
        ("whole", " 12\n", 12),
        ("whole", "+12", 12),
        ("whole", "12.0", 12.0),
        ("whole", "12.5", "12.5"),
        ("whole", "1e400", "1e400"),
        ("whole", "twelve", "twelve"),
        ("whole", "12 kg", "12 kg"),
        ("whole", "true", "true"),
        ("whole", 12.5, 12.5),
        ("number", "12", 12),
        ("number", "-.5", -0.5),
        ("number", "NaN", "NaN"),
        ("flag", "true", True),
        ("flag", "False", False),
        ("flag", "yes", "yes"),
        ("flag", "1", "1"),
        ("list", "['a', 1]", ["a", 1]),
        ("list", '{"a": 1}', '{"a": 1}'),
        ("list", "a, b", "a, b"),
        ("object", "{'a': None}", {"a": None}),
        ("object", '{"a": "1"}', {"a": "1"}),
        ("nothing", "null", None),
        ("nothing", "None", None),
        ("maybe_text", "null", None),
        ("maybe_text", "12", "12"),
        ("maybe_text", "", ""),
        ("maybe_whole", "null", None),
        ("maybe_whole", "12", 12),
        ("nullable", "None", None),
        ("unit", "c", "c"),
        ("unit", "1", "1"),
        ("level", "2", 2),
        ("level", "9", 9),
        ("two", '{"a": 1}', {"a": 1}),
        ("two", "1.5", 1.5),
        ("const", "7", 7),
        ("any", "12", "12"),
        ("python", "{}", {}),
        ("defined", "{}", {}),
        ("circle", "12", 12),
        ("broken", "12", "12"),
        ("undeclared", "12", "12"),
        ("list", "[" * 5000, "[" * 5000),
    ],
)
def test_values_get_the_declared_type(name, value, expected):
    """Text where the schema allows text; what it means in the declared type where it has a meaning there."""
    got = json.loads(normalize({name: value}, SCHEMA))
    assert got == {name: expected}
    assert type(got[name]) is type(expected)


@pytest.mark.parametrize("name", ["whole", "number", "flag", "list", "object", "maybe_whole", "level"])
def test_an_empty_value_of_anything_but_text_is_left_out(name):
    assert normalize({name: "", "text": ""}, SCHEMA) == '{"text":""}'
    assert normalize({name: " \n"}, SCHEMA) == "{}"


@pytest.mark.parametrize("schema", [{}, {"properties": ["text"]}, {"type": "object"}])
def test_without_declared_parameters_nothing_is_converted(schema):
    assert normalize({"whole": "12", "text": 12}, schema) == '{"whole":"12","text":12}'


def test_a_reference_that_leads_nowhere_says_nothing():
    for reference in ("#/$defs/None", "other.json", "#/properties/text/type", 7):
        assert types_of({"$ref": reference}, SCHEMA) == frozenset()


@pytest.mark.parametrize(
    ("arguments", "schema", "describes"),
    [
        ({"type": "object", "properties": {}}, SCHEMA, True),
        ({"type": "object", "properties": {}}, {"properties": {"type": {}, "properties": {}}}, False),
        ({"type": "object"}, SCHEMA, False),
        ({"city": {"type": "string", "description": "d"}}, SCHEMA, True),
        ({"object": {"type": "string"}}, SCHEMA, False),
        ({"any": {"type": "string"}}, SCHEMA, False),
        ({"whole": {"type": "integer"}}, SCHEMA, True),
        ({"place": {"type": "string", "value": "x"}}, SCHEMA, False),
        ({"place": {"type": "restaurant"}}, SCHEMA, False),
        ({}, SCHEMA, False),
    ],
)
def test_what_describes_parameters(arguments, schema, describes):
    assert is_definition(arguments, schema) is describes


NAMES = ("look_up", "Search", "search", "get weather", "ns.f", "日本")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("look_up", "look_up"),
        ("LOOK_UP", "look_up"),
        ("Search", "Search"),
        ("SEARCH", None),
        ("functions.look_up", "look_up"),
        ("Functions.Look_Up", "look_up"),
        ("default_api:look_up", "look_up"),
        ("other.look_up", None),
        ("ns.f", "ns.f"),
        ("f", None),
        ("look_up<|channel|>commentary", "look_up"),
        ("look_up<|constrain|>json", "look_up"),
        ("look_up[ARGS]", "look_up"),
        ("look_up()", "look_up"),
        ("look_up.call", "look_up"),
        ("functions.look_up<|channel|>analysis", "look_up"),
        (" look_up ", "look_up"),
        ("look_up_more", None),
        ("look", None),
        ("get weather", "get weather"),
        ("日本", "日本"),
        ("", None),
    ],
)
def test_the_function_that_a_name_stands_for(name, found):
    assert DeclaredNames(NAMES).find(name) == found
    if found:
        assert all(DeclaredNames(NAMES).can_begin(name[:end]) for end in range(len(name) + 1))


def test_what_no_name_begins_with():
    names = DeclaredNames(NAMES)
    for start in ("x", "look_x", "look_upper", "functions.x", "Alice", "os.look_up"):
        assert not names.can_begin(start)


# Literals.


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, -2.5, true, null], "b": {"c": ""}}', {"a": [1, -2.5, True, None], "b": {"c": ""}}),
        ("{'a': [True, None], \"b\": 'x'}", {"a": [True, None], "b": "x"}),
        ("[1,]", [1]),
        (" [ ] ", []),
        ("+1", 1),
        (".5", 0.5),
        ("1.", 1.0),
        ('"\\u00e9\\n\\/\\ud83c\\udf38\\\'"', "é\n/🌸'"),
        ("'\\d\\'\"'", "\\d'\""),
        ('"a\nb"', "a\nb"),
    ],
)
def test_literals(text, value):
    """Whole, and in pieces of any size."""
    assert read_literal(text) == value
    for size in range(1, len(text)):
        reader = LiteralReader()
        for at in range(0, len(text), size):
            piece = text[at : at + size]
            end = reader.read(piece, 0)
            assert end == len(piece) or (reader.is_complete and not piece[end:].strip())
        reader.read_rest("")
        assert reader.is_complete
        assert reader.value == value


@pytest.mark.parametrize("digits", ["1.50", "1e3", "1e400", "-0", "123456789012345678901234567890", "0.1", "17"])
def test_a_number_keeps_its_digits(digits):
    assert normalize({"a": read_literal(digits)}, {}) == f'{{"a":{digits}}}'


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "[",
            "]",
            "{",
            "[1",
            "[1 2]",
            "[1,,2]",
            "[,]",
            "{1: 2}",
            '{"a" 1}',
            '{"a": }',
            "{a: 1}",
            '{"a": 1]',
            "[1}",
        ),
        *(
            "01",
            "1_000",
            "0x1",
            "1e",
            "-",
            "+",
            ".",
            "--1",
            "NaN",
            "Infinity",
            "undefined",
            "yes",
            "tru",
            "[\u0661]",
            "1 1",
        ),
        *('"a', "'a", '"\\q"', '"\\u12"', '"\\', "f(1)", "[f(a=1)]", "(1, 2)", "{'a', 'b'}", "b'a'", "[1]]", "// a"),
    ],
)
def test_what_is_not_a_literal(text):
    with pytest.raises(UnreadableError):
        read_literal(text)


def test_how_deep_a_literal_may_be_nested_is_the_same_everywhere():
    """It does not depend on the stack of the interpreter."""
    assert read_literal("[" * MOST_NESTED + "]" * MOST_NESTED)
    for depth in (MOST_NESTED + 1, 100_000):
        with pytest.raises(UnreadableError):
            read_literal("[" * depth + "]" * depth)


# Without characters for private use, some of which stand for bytes that are not UTF-8.
characters = st.text(st.characters(exclude_categories=["Cs", "Co"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | characters,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(characters, children, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("times", "is_decoded", "expected"),
    [(1, False, {"a": 1}), (2, False, {"a": 1}), (3, False, None), (1, True, {"a": 1}), (2, True, None)],
)
def test_text_is_decoded_once_more_at_most(times, is_decoded, expected):
    """Text that was encoded more often has no certain meaning; a value out of JSON was decoded once already."""
    written = {"a": 1}
    for _ in range(times):
        written = json.dumps(written)
    read = normalize(written, {}, is_decoded=is_decoded)
    assert (read if read is None else json.loads(read)) == expected


@given(st.dictionaries(characters, json_values, max_size=4), st.booleans(), st.sampled_from([None, 1]))
def test_whatever_json_writes_is_read(value, ascii_only, indent):
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert normalize(text, {}) == text
    assert json.loads(normalize(value, {})) == value


@given(json_values)
def test_whatever_python_writes_is_read_or_refused(value):
    """A `repr` has escapes that only Python knows, such as those of control characters."""
    try:
        read = read_literal(repr(value))
    except UnreadableError:
        return
    assert json.loads(normalize({"a": read}, {})) == {"a": json.loads(json.dumps(value))} or "\\" in repr(value)


@given(st.text())
def test_any_text_is_read_or_refused(text):
    try:
        read_literal(text)
    except UnreadableError:
        return
