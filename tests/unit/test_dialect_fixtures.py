"""That the answers of the old releases are what is quoted and known of them, and say so."""

import hashlib
import json
import re

import pytest

from support.dialects import (
    CUT_PIECES,
    DIALECTS,
    FOLDER,
    INDEX,
    LISTED_MODEL,
    PIECES,
    PROPERTIES,
    QUOTES,
    TEXT,
    WIRE,
    dump,
    event,
    quoted_chunks,
    serve,
    tokens,
)
from support.raw_server import RawRequest, Send
from support.streams import DONE, payloads, recordings

RELEASES = ("0.2", "0.4", "0.6.87", "0.7.117", "0.7.120", "0.8.101", "0.8.117", "0.10")
CASES = {"ordinary", "length", "tool-call", "functools", "unknown-model", "plain", "plain-tool-call", "models"}
DAEMON_CASES = {"structured", "doubled", "doubled-at-once", "plain-doubled", "error", "error-first"}
BETALGO = {"CreatedAt", "IsDelta", "Successful", "HttpStatusCode"}
NULL_MEMBERS = {"StreamEvent", "HeaderValues", "system_fingerprint", "service_tier"}
NULL_OF_DELTA = {"name", "tool_call_id", "function_call"}
# A release, which of the chunks in its quoted file, and what that chunk says.
QUOTED_CHUNKS = (
    ("0.4", 0, ",", 197),
    ("0.6.87", 0, "\n", 0),
    ("0.7.117", 0, "Wh", 0),
    ("0.7.120", 0, " breath", 0),
    ("0.8.101", 0, "ence", 0),
    ("0.8.101", 1, " holds", 1),
    ("0.8.101", 2, " its", 2),
)


def chunks_of(answer):
    return [each for each in payloads(answer.body) if isinstance(each, dict) and "choices" in each]


def bytes_of_quote(file, position):
    """The payload as it stands in the file; of the annotated one, without its comments and line breaks."""
    text = (QUOTES[file]["path"] / file).read_text(encoding="utf-8")
    if file.endswith(".txt"):
        return re.sub(r"\n\s*", "", re.sub(r" // .*", "", text)).replace('": ', '":').strip().encode()
    return [line.removeprefix("data: ") for line in text.splitlines() if line][position].encode()


def test_every_release_is_covered():
    """Every release that the tests are to cover is there, and Q01 and Q02, which are older than they, in one more."""
    assert tuple(DIALECTS) == RELEASES


@pytest.mark.parametrize("release", RELEASES)
def test_every_release_has_every_kind_of_answer(release):
    """Every release has every kind of answer."""
    wanted = CASES | (DAEMON_CASES if release == "0.10" else set())
    assert wanted <= DIALECTS[release].answers.keys()


class TestComposition:
    """A composed chunk is the quoted one but for what the description changes."""

    @pytest.mark.parametrize(("release", "which", "content", "position"), QUOTED_CHUNKS)
    def test_sample_is_composed_byte_for_byte(self, release, which, content, position):
        """Given the sample's own values the composer writes the sample's own bytes."""
        dialect = DIALECTS[release]
        quote = bytes_of_quote(dialect.sample, which)
        assert dump(dialect.chunk(content, position)) == quote
        assert event(dialect.chunk(content, position)) == b"data: " + quote + b"\n\n"

    def test_trimmed_sample_is_the_remainder(self):
        """The daemon's sample is what remains when the members that its author cut off are cut off again."""
        dialect = DIALECTS["0.10"]
        chunk = dialect.chunk("Hello")
        del chunk["CreatedAt"], chunk["choices"][0]["message"], chunk["choices"][0]["delta"]["tool_calls"]
        assert dump(chunk) == bytes_of_quote(dialect.sample, 0)

    def test_reported_chunks_are_composed(self):
        """The chunk behind the quoted one, of which only some values could be read."""
        following = DIALECTS["0.4"].chunk(" maybe", 198)
        assert (following["id"], following["choices"][0]["index"]) == ("chat.id.4115", 198)
        assert [DIALECTS["0.6.87"].chunk("x", position)["id"] for position in (1, 2)] == ["chat.id.2", "chat.id.3"]
        following = DIALECTS["0.7.117"].chunk("isper", 1)
        assert (following["id"], following["choices"][0]["index"]) == ("chat.id.1", 1)

    @pytest.mark.parametrize("path", recordings("1.0.0"), ids=lambda path: path.stem)
    def test_strings_are_written_as_the_service_writes_them(self, path):
        """Every payload of the oldest release that runs here comes out as its very bytes."""
        written = re.findall(rb"^data: (\{.*\})$", path.read_bytes(), re.MULTILINE)
        assert [dump(json.loads(each)) for each in written] == written

    def test_recordings_hold_what_has_to_be_escaped(self):
        """The recordings that the test above compares with are there, and have more than plain ASCII in them."""
        everything = b"".join(path.read_bytes() for path in recordings("1.0.0"))
        assert all(each in everything for each in (rb"\u00EF", rb"\uD83C\uDF38", rb"\u0022", rb"\u003C", rb"\u0027"))

    def test_bodies_are_written_as_the_service_writes_them(self):
        """A plain body is the chunk with another `object`: that of the oldest release that runs here shows it."""
        head, _, body = (FOLDER / "1.0.0-nonstream.http").read_bytes().partition(b"\r\n\r\n")
        assert b"\r\nContent-Type: application/json\r\n" in head
        assert dump(json.loads(body)) == body
        recorded = json.loads(body)
        composed = json.loads(DIALECTS["0.10"].answers["plain"].body)
        del recorded["usage"]  # which 0.x does not count
        assert list(composed) == list(recorded)
        assert list(composed["choices"][0]) == list(recorded["choices"][0])
        assert composed["choices"][0]["message"].keys() == recorded["choices"][0]["message"].keys()

    def test_tokens_cut_through_the_tags_are_composed(self):
        """A tag comes in several pieces, and none is lost."""
        assert tokens("<tool_call>\n{") == ["<", "tool", "_", "call", ">", "\n", "{"]
        assert "".join(tokens(TEXT)) == TEXT


@pytest.mark.parametrize("release", RELEASES)
class TestFacts:
    """What a dialect says of itself is what its streams show."""

    def test_properties_are_complete(self, release):
        """Nothing is left open, and there is nothing else."""
        assert DIALECTS[release].facts.keys() == PROPERTIES.keys()

    def test_properties_hold_for_the_stream(self, release):
        """Each property, against the bytes of the ordinary stream."""
        dialect = DIALECTS[release]
        answer = dialect.answers["ordinary"]
        chunks = chunks_of(answer)
        choices = [chunk["choices"][0] for chunk in chunks]
        deltas = [choice["delta"] for choice in choices]
        counted = list(range(len(chunks)))
        first_id = int(chunks[0]["id"].removeprefix("chat.id."))
        seen = {
            "content_type": dict(answer.headers)["Content-Type"],
            "object": the_one(chunk["object"] for chunk in chunks),
            "id": named(
                [int(chunk["id"].removeprefix("chat.id.")) - first_id for chunk in chunks],
                {"counts": counted, "constant": [0] * len(chunks)},
            ),
            "index": named([choice["index"] for choice in choices], {"counts": counted, "zero": [0] * len(chunks)}),
            "model": "null" if the_one(chunk["model"] for chunk in chunks) is None else "named",
            "created_at": "written" if all(chunk.keys() >= BETALGO for chunk in chunks) else "left out",
            "message": "beside" if all(choice["message"] == choice["delta"] for choice in choices) else "elsewhere",
            "role": "each" if all(delta["role"] == "assistant" for delta in deltas) else "once",
            "tool_calls": "empty" if all(delta["tool_calls"] == [] for delta in deltas) else "otherwise",
            "usage": null_or_absent(chunks, "usage"),
            "error": null_or_absent(chunks, "error"),
            "null_members": "written"
            if all(
                chunk.keys() >= NULL_MEMBERS and delta.keys() >= NULL_OF_DELTA
                for chunk, delta in zip(chunks, deltas, strict=True)
            )
            else "omitted",
            "finish_reason": named(
                [choice.get("finish_reason") for choice in choices],
                {"never": [None] * len(chunks), "last": [None] * (len(chunks) - 1) + ["stop"]},
            ),
            "done": "sent" if answer.pieces[-1] == DONE else "missing",
            "escapes": "as in 1.0.0" if rb"na\u00EFve" in answer.body else "otherwise",
        }
        assert seen == {name: fact.value for name, fact in dialect.facts.items()}
        if seen["null_members"] == "omitted":
            assert not any(b": null" in piece or b":null" in piece for piece in answer.pieces)
        else:
            assert all("finish_reason" in choice and "finish_details" in choice for choice in choices)

    def test_deltas_add_up_to_the_text(self, release):
        """The deltas of the streams hold the text that the answer is said to have, and no more."""
        answers = DIALECTS[release].answers
        pieces = [chunk["choices"][0]["delta"]["content"] for chunk in chunks_of(answers["ordinary"])]
        assert [piece for piece in pieces if piece] == list(PIECES)
        assert not TEXT.isascii()
        cut = chunks_of(answers["length"])
        assert [chunk["choices"][0]["delta"]["content"] for chunk in cut] == list(CUT_PIECES)
        told = DIALECTS[release]["finish_reason"] == "last"
        assert cut[-1]["choices"][0].get("finish_reason") == ("length" if told else None)
        assert ("length.http" in answers["length"].origin["case"]) is told

    def test_calls_as_text_have_many_pieces(self, release):
        """A call comes in many pieces of text, Qwen's in its tags and Phi's as quoted, and nothing is structured."""
        answers = DIALECTS[release].answers
        for case, whole in (
            ("tool-call", '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich"}}\n</tool_call>'),
            ("functools", (FOLDER / "0.5.x-phi4mini-functools-content.txt").read_text(encoding="utf-8")),
        ):
            deltas = [chunk["choices"][0]["delta"] for chunk in chunks_of(answers[case])]
            assert len(deltas) > 40
            assert "".join(delta["content"] for delta in deltas) == whole
            assert not any(delta["tool_calls"] for delta in deltas)

    def test_bodies_have_the_known_fields(self, release):
        """A plain body has the text in delta and message, and the list of models the members that are known."""
        answers = DIALECTS[release].answers
        body = json.loads(answers["plain"].body)
        [choice] = body["choices"]
        assert body["object"] == "chat.completion"
        assert choice["delta"]["content"] == choice["message"]["content"] == TEXT
        assert ("finish_reason" in choice) is (DIALECTS[release]["finish_reason"] == "last")
        models = json.loads(answers["models"].body)
        assert {"IsDelta", "Successful", "HttpStatusCode"} <= models.keys()
        [model] = models["data"]
        assert (model["id"], model["object"]) == (LISTED_MODEL, "model")
        assert model.keys() - {"id", "object"} == (
            set() if release == "0.10" else {"maxInputTokens", "maxOutputTokens"}
        )


def the_one(values):
    [value] = set(values)
    return value


def named(values, shapes):
    return next((name for name, shape in shapes.items() if shape == values), values)


def null_or_absent(chunks, name):
    return (
        the_one("null" if chunk[name] is None else chunk[name] for chunk in chunks if name in chunk)
        if any(name in chunk for chunk in chunks)
        else "absent"
    )


class TestDaemonCases:
    """The calls of the 0.10 daemon, as they are described."""

    def test_structured_call_has_a_message(self):
        """The chunk with the parsed call has `message`, no `delta`, and no `index` in the call."""
        [chunk] = chunks_of(DIALECTS["0.10"].answers["structured"])
        [choice] = chunk["choices"]
        assert "delta" not in choice
        assert choice["finish_reason"] == "tool_calls"
        [call] = choice["message"]["tool_calls"]
        assert call.keys() == {"id", "type", "function"}
        assert json.loads(call["function"]["arguments"]) == {"first": 7, "second": 6}

    @pytest.mark.parametrize("case", ["doubled", "doubled-at-once"])
    def test_doubled_call_is_text_and_structure(self, case):
        """The markup and the structured call are both there, in turn or in one chunk."""
        parts = [
            choice.get("delta") or choice["message"]
            for chunk in chunks_of(DIALECTS["0.10"].answers[case])
            for choice in chunk["choices"]
        ]
        text = "".join(part["content"] for part in parts)
        assert text.startswith("<tool_call>")
        assert text.endswith("</tool_call>")
        assert [call["function"]["name"] for part in parts for call in part["tool_calls"]] == ["multiply_numbers"]

    def test_doubled_call_is_in_the_body(self):
        """In the body, too, as in the fixture of Microsoft's C++ SDK."""
        [choice] = json.loads(DIALECTS["0.10"].answers["plain-doubled"].body)["choices"]
        assert choice["message"]["content"] == (
            '<tool_call>[{"name": "multiply_numbers", "parameters": {"first": 7, "second": 6}}]</tool_call>'
        )
        assert choice["message"]["tool_calls"][0]["id"] == "call_1"
        assert choice["finish_reason"] == "tool_calls"

    def test_error_is_the_quoted_one(self):
        """The error event is the quoted line."""
        line = (WIRE / "0.10.x-daemon-midstream-error.sse").read_bytes()
        for case in ("error", "error-first"):
            assert DIALECTS["0.10"].answers[case].pieces[-1] == line + b"\n"

    def test_endings_lack_reason_marker_or_both(self):
        """A stream may lack the reason, the end marker, or both."""
        answers = DIALECTS["0.10"].answers
        for case, reason, done in (
            ("without-reason", False, True),
            ("without-done", True, False),
            ("without-either", False, False),
        ):
            assert (b'"finish_reason"' in answers[case].body, DONE in answers[case].body) == (reason, done)


class TestOrigin:
    """Every part says where it comes from."""

    @staticmethod
    def check(origin):
        """An origin names a stored file with that file's own source, or a description and where it is made."""
        kind, name, source = re.fullmatch(r"(quoted:|composed after) ([^,]+), (.+)", origin).groups()
        if kind == "composed after" and re.fullmatch(r"Q\d\d", name):
            assert name in INDEX["descriptions"]
            assert source.startswith("https://")
        elif name.startswith("live/"):
            assert kind == "composed after"
            assert (WIRE / name).is_file()
        else:
            assert (QUOTES[name]["path"] / name).is_file()
            assert source == QUOTES[name]["source"]

    @pytest.mark.parametrize("release", RELEASES)
    def test_properties_name_their_source(self, release):
        """Each property of a dialect."""
        dialect = DIALECTS[release]
        assert dialect.origin.keys() == dialect.facts.keys()
        for origin in dialect.origin.values():
            self.check(origin)

    @pytest.mark.parametrize("release", RELEASES)
    def test_answers_name_their_source(self, release):
        """The status, the label, the other headers, the members and the content of each answer."""
        for answer in DIALECTS[release].answers.values():
            assert answer.origin.keys() == {"status", "content_type", "headers", "members", "case"}
            for origin in answer.origin.values():
                self.check(origin)

    @pytest.mark.parametrize("release", RELEASES)
    def test_only_its_own_sample_is_a_quote(self, release):
        """A property is quoted only where the sample is of that very release."""
        dialect = DIALECTS[release]
        own = QUOTES[dialect.sample]["version"].removeprefix("CLI ").split(" ")[0].removesuffix(".x") == release
        assert any(origin.startswith("quoted") for origin in dialect.origin.values()) is own

    @pytest.mark.parametrize("origin", ["quoted: none.sse, x", "composed after Q99, https://x", "measured", ""])
    def test_missing_source_is_refused(self, origin):
        """The check refuses what names no file and no description."""
        with pytest.raises((AssertionError, AttributeError, KeyError)):
            self.check(origin)

    def test_descriptions_are_used(self):
        """Every description has an address, and some property or answer of a dialect that names it."""
        origins = [
            origin
            for dialect in DIALECTS.values()
            for source in (dialect, *dialect.answers.values())
            for origin in source.origin.values()
        ]
        used = {found for origin in origins for found in re.findall(r"after (Q\d\d),", origin)}
        shown_by_the_samples = {"Q06", "Q07", "Q12", "Q15"}
        assert used | shown_by_the_samples == INDEX["descriptions"].keys()
        for description in INDEX["descriptions"].values():
            assert description["source"].startswith("https://")
            assert description["says"]


class TestFiles:
    """The stored samples are those that the index lists, byte for byte."""

    def test_nothing_else_is_stored(self):
        """Every file of the folder stands in its index."""
        assert {path.name for path in FOLDER.iterdir()} == {"index.json", *(each["file"] for each in INDEX["samples"])}

    @pytest.mark.parametrize("file", QUOTES)
    def test_digests_match_the_index(self, file):
        """The size and the digest are those of the index."""
        stored = (QUOTES[file]["path"] / file).read_bytes()
        assert (len(stored), hashlib.sha256(stored).hexdigest()) == (QUOTES[file]["bytes"], QUOTES[file]["sha256"])

    def test_quotes_are_read_whole(self):
        """A file of several chunks gives them all."""
        assert [len(quoted_chunks(file)) for file in ("0.8.101-issue299-chunks.sse", DIALECTS["0.7.120"].sample)] == [
            3,
            1,
        ]


class TestServing:
    """What the raw server sends of it."""

    @pytest.mark.parametrize("release", RELEASES)
    def test_responses_are_served_whole(self, release):
        """Status line, headers and body stand on the wire, a stream in one chunk for each event."""
        dialect = DIALECTS[release]
        sent = self.bytes_for(dialect, "ordinary", "/v1/chat/completions")
        head, _, body = sent.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: " + dialect["content_type"].encode() + b"\r\nDate: ")
        assert b"\r\nServer: Kestrel\r\n" in head
        assert body.count(b"data: ") == len(dialect.answers["ordinary"].pieces)
        refused = self.bytes_for(dialect, "unknown-model", "/v1/chat/completions")
        status, told = (b"404 Not Found", b"error") if release == "0.10" else (b"400 Bad Request", b"No OpenAIService")
        assert refused.startswith(b"HTTP/1.1 " + status)
        assert told in refused.partition(b"\r\n\r\n")[2]

    def test_only_models_and_answers_are_served(self):
        """The models are listed whatever the case; there is nothing else."""
        dialect = DIALECTS["0.8.101"]
        assert self.bytes_for(dialect, "length", "/v1/models").endswith(dialect.answers["models"].body)
        assert self.bytes_for(dialect, "length", "/models/loaded").startswith(b"HTTP/1.1 404 Not Found")

    @staticmethod
    def bytes_for(dialect, case, path):
        steps = serve(dialect, case)(None, RawRequest("POST", path, [], b""))
        assert all(isinstance(step, Send) for step in steps)
        return b"".join(step.data for step in steps)
