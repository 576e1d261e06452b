"""The tables in docs/releases.md are what live runs show; and the program that makes it finds what is wrong."""

import itertools
import json
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from checks.matrix import runs
from checks.matrix.behaviours import BEHAVIOURS, DIED, Cell, cells, right_outcome
from checks.matrix.outcomes import Target
from checks.matrix.probe import outcome
from checks.matrix.runs import LOST, Result, Run, major_of, run_release
from checks.matrix.table import PLACE, as_text, differences, table_in, table_of, with_table
from support.clients import CLIENTS
from support.environments import REPOSITORY
from support.provision import skipped_without
from support.raw_server import Hold, RawServer, in_turn, marked, plain_response, sse_response
from support.releases import DEFAULT_VERSIONS, RELEASES
from support.scripted_model import SCRIPTS, marker
from support.service import RunningService, ServiceFailedError
from support.streams import betalgo, chunk, conforming, stream

MATRIX = Path(runs.__file__).parent
main = runpy.run_path(str(MATRIX / "__main__.py"), run_name="checks.matrix.__main__")["main"]
EMPTY = f"Before.\n\n{PLACE.begin}\n{PLACE.end}\n\nAfter.\n"
STREAM = "plain stream"


@pytest.fixture(scope="session")
def pythons():
    """The interpreters of all majors of the client, without one of which the table would say something else."""
    found = {}
    for name, environment in CLIENTS.items():
        with skipped_without(name):
            found[major_of(name)] = environment.ensure()
    return found


@pytest.mark.extended
def test_document_shows_what_a_fresh_run_shows(service, get_service, pythons):
    """The table of each release in docs/releases.md is what it does now, and all of it is right with the shim."""
    fresh = run_release(service.version, get_service, pythons)
    print(as_text(Run(fresh)))
    assert not [result for result in fresh if result.cell.client == "shim" and result.wrong]
    committed = table_in((REPOSITORY / "docs" / "releases.md").read_text(encoding="utf-8"))
    assert not differences(committed, table_of(fresh))


def right_results(*releases, **others):
    """All cells of some releases as they should be; with other outcomes for the plain stream of one client or another.

    Args:
        releases: Which.
        others: The outcome by client: "plain" or "shim".
    """
    return [
        Result(release, major, cell, others.get(cell.client, right) if cell.title == STREAM else right)
        for release, major, cell in itertools.product(releases, "123", cells())
        if (right := right_outcome(cell.title, release))
    ]


class TestTable:
    """The tables in the document: written, read and compared."""

    def test_is_read_as_it_was_written(self):
        """Every cell comes back, of releases that share a column, too; the text around it stays."""
        table = table_of(right_results(*RELEASES, plain="a|b, <c>"))
        text = with_table(EMPTY, table)
        assert table_in(text) == table
        assert text.startswith("Before.\n\n<!-- matrix -->\n- ")
        assert text.endswith("<!-- /matrix -->\n\nAfter.\n")
        assert with_table(text, table) == text

    def test_has_one_table_for_neighbours_that_show_the_same(self):
        """Equal tables are one, headed by the first and the last of them; others are not."""
        results = [*right_results("1.0.0", plain="junk"), *right_results("1.1.0", "1.2.4", "2.0.1")]
        lines = with_table(EMPTY, table_of(results)).splitlines()
        headings = [line for line in lines if line.startswith("### ")]
        assert headings == ["### 1.0.0", "### 1.1.0 – 1.2.4", "### 2.0.1"]  # noqa: RUF001 - the dash of a range
        assert [line for line in lines if line.startswith(f"| {STREAM} |")] == [
            f"| {STREAM} | junk | whole text |",
            f"| {STREAM} | whole text | the same |",
            f"| {STREAM} | whole text | the same |",
        ]

    def test_says_what_the_plain_client_shows_and_what_the_shim_makes_of_it(self):
        """Both where they differ, one where they do not, and a mark where the shim is wrong."""
        assert table_of(right_results("1.2.4", plain="junk"))[STREAM, "1.2.4"] == "junk → whole text"
        assert table_of(right_results("1.2.4"))[STREAM, "1.2.4"] == "whole text"
        assert table_of(right_results("1.2.4", plain="junk", shim="junk"))[STREAM, "1.2.4"] == "junk ✗"

    def test_names_the_clients_where_they_differ(self):
        """By major, and by mode where the modes of a major differ."""
        results = [
            Result("1.2.4", major, Cell(STREAM, client, mode), said if client == "plain" else "whole text")
            for client in ("plain", "shim")
            for major, mode, said in (
                ("1", "sync", "a"),
                ("1", "async", "a"),
                ("2", "sync", "a"),
                ("2", "async", "b"),
                ("3", "sync", "b"),
                ("3", "async", "b"),
            )
        ]
        said = table_of(results)[STREAM, "1.2.4"]
        assert said == "openai 1, 2 sync: a; openai 2 async, 3: b → whole text"

    def test_changed_cell_is_found(self):
        """One cell that differs is one line; a release that was not run says nothing."""
        committed = table_of(right_results("1.2.4", "2.2.1"))
        assert differences(committed, table_of(right_results("1.2.4"))) == []
        changed = {**committed, ("model list", "1.2.4"): "no model"}
        (line,) = differences(changed, table_of(right_results("1.2.4")))
        assert line == "model list, 1.2.4: the document says 'no model', this run 'the model'"
        assert differences(changed, table_of(right_results("2.2.1"))) == []

    def test_missing_and_unknown_cells_are_found(self):
        """A column or a row that only one of them has is a difference."""
        fresh = table_of(right_results("1.2.4"))
        assert len(differences({}, fresh)) == len(BEHAVIOURS)
        assert len(differences({**fresh, ("another row", "1.2.4"): "x"}, fresh)) == 1


class TestCommand:
    """``python tests/checks/matrix``."""

    @pytest.fixture
    def readme(self, tmp_path):
        """A document with a place for the table."""
        path = tmp_path / "README.md"
        path.write_text(EMPTY, encoding="utf-8")
        return path

    @pytest.fixture
    def matrix(self, readme, monkeypatch):
        """Run the command on results that are given."""
        monkeypatch.delenv("FOUNDRY_SHIM_RELEASES", raising=False)
        monkeypatch.setenv("CI", "true")

        def matrix(run, *arguments):
            return main(arguments, lambda versions: run, readme)

        return matrix

    def test_right_cells_are_a_success_and_a_wrong_one_of_the_shim_is_not(self, matrix, capsys):
        """The plain client may be as wrong as it likes."""
        assert matrix(Run(right_results("1.2.4", plain="junk"))) == 0
        assert "72 cells, 72 right, 0 wrong" in capsys.readouterr().out
        results = right_results("1.2.4")
        index = next(index for index, result in enumerate(results) if result.cell.client == "shim")
        results[index] = Result("1.2.4", "1", results[index].cell, "no text")
        assert matrix(Run(results)) == 1
        out = capsys.readouterr().out
        assert "WRONG: openai 1 sync: no text; openai 1 async, 2, 3: whole text; right is: whole text" in out
        assert "With the shim: 72 cells, 71 right, 1 wrong." in out

    def test_what_was_not_run_is_said(self, matrix, capsys):
        """With the reason; it is a failure where it had to run."""
        assert matrix(Run(right_results("1.2.4"), {"2.2.1": "no network"})) == 0
        assert "2.2.1: not run: no network" in capsys.readouterr().out
        assert matrix(Run([], {"2.2.1": "no network"}, failed=True)) == 1

    def test_check_fails_where_the_readme_differs(self, matrix, readme, capsys):
        """It fails exactly if a cell of what was run is not as in the document."""
        assert matrix(Run(right_results("1.2.4", "2.2.1", plain="junk")), "--write") == 0
        assert matrix(Run(right_results("1.2.4", plain="junk")), "--check") == 0
        assert matrix(Run(right_results("1.2.4", plain="other junk")), "--check") == 1
        assert "this run 'other junk → whole text'" in capsys.readouterr().out

    def test_write_keeps_the_columns_of_releases_that_were_not_run(self, matrix, readme):
        """So a person without all releases can bring the others up to date."""
        matrix(Run(right_results("1.2.4", "2.2.1", plain="junk")), "--write")
        matrix(Run(right_results("2.2.1", plain="less junk")), "--write")
        table = table_in(readme.read_text(encoding="utf-8"))
        assert table[STREAM, "1.2.4"] == "junk → whole text"
        assert table[STREAM, "2.2.1"] == "less junk → whole text"

    @pytest.mark.parametrize("option", ["--check", "--write"])
    def test_readme_without_a_place_is_a_failure(self, matrix, readme, capsys, option):
        """It is a failure that says so."""
        readme.write_text("# Nothing\n", encoding="utf-8")
        assert matrix(Run(right_results("1.2.4")), option) == 1
        assert "There is no place for the table" in capsys.readouterr().out

    def test_chooses_releases_by_option_variable_or_cache(self, readme, monkeypatch, capsys):
        """The option, else the variable, else the usual ones and what is installed."""
        chosen = []

        def run_all(versions):
            chosen.append(versions)
            return Run()

        monkeypatch.setenv("CI", "true")
        monkeypatch.setenv("FOUNDRY_SHIM_RELEASES", "all")
        main([], run_all, readme)
        main(["--releases", "1.0.0, 2.0.1"], run_all, readme)
        monkeypatch.setenv("FOUNDRY_SHIM_CACHE", str(readme.parent))
        monkeypatch.delenv("FOUNDRY_SHIM_RELEASES")
        main([], run_all, readme)
        assert chosen == [list(RELEASES), ["1.0.0", "2.0.1"], list(DEFAULT_VERSIONS)]
        with pytest.raises(SystemExit):
            main(["--releases", "3.0.0"], run_all, readme)
        assert "no such release: 3.0.0" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("folder", "start"), [(REPOSITORY, ["tests/checks/matrix"]), (MATRIX.parents[1], ["-m", "checks.matrix"])]
    )
    def test_starts_from_the_repository_and_from_the_tests(self, folder, start):
        """The command finds all that it needs."""
        done = subprocess.run([sys.executable, *start, "--help"], cwd=folder, capture_output=True, check=True)
        assert b"--check" in done.stdout


class TestDeaths:
    """Services that die while they are asked."""

    @pytest.fixture
    def ask(self, monkeypatch):
        """Ask a release whose service says something else each time, from a list of {cell number: outcome}."""
        monkeypatch.setattr(runs, "cells", lambda: [Cell(STREAM, "shim", mode) for mode in ("sync", "async")])

        def ask(version, *programs):
            answers = iter(programs)
            monkeypatch.setattr(
                runs, "_probe", lambda python, service, left: dict(zip(left, next(answers), strict=False))
            )
            results = run_release(version, lambda version: None, {"1": Path("python")})
            assert not list(answers)
            return results

        return ask

    def test_release_that_dies_under_any_client_is_asked_again(self, ask):
        """Each cell has three tries with a new service; what came before is kept."""
        results = ask("2.1.0", [DIED], ["whole text", DIED], [DIED], ["whole text"])
        assert [result.right for result in results] == [True, True]

    def test_third_death_in_a_cell_is_neither_right_nor_wrong(self, ask):
        """It is counted and listed, and the table says it; no comparison takes notice."""
        results = ask("2.1.0", [DIED], [DIED], [DIED], ["whole text"])
        assert [(result.died, result.right, result.wrong) for result in results] == [
            (True, False, False),
            (False, True, False),
        ]
        text = as_text(Run(results))
        assert "2.1.0, plain stream, shim, openai 1 sync: the service dies" in text
        assert "2 cells, 1 right, 0 wrong, 1 without a service" in text
        assert "WRONG" not in text
        dead = [Result("2.1.0", "1", cell, DIED) for cell in cells()]
        assert set(table_of(dead).values()) == {"the service dies (any client)"}
        assert not differences({}, table_of(dead))

    def test_death_of_any_other_release_is_wrong(self, ask):
        """At once."""
        results = ask("1.2.4", [DIED], ["whole text"])
        assert [result.wrong for result in results] == [True, False]

    def test_program_that_ends_without_a_word_is_wrong(self, ask):
        """The other cells are tried all the same."""
        results = ask("2.1.0", [], ["whole text"])
        assert [result.outcome for result in results] == [LOST, "whole text"]
        assert results[0].wrong

    def test_program_says_so_and_ends(self):
        """Real programs, at an address where nobody listens: a line for the first cell, and none for the next."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            address = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
            said = runs._probe(Path(sys.executable), RunningService("1.2.4", address, "m"), cells())
        assert said == {cells()[0]: DIED}


def events(*chunks):
    return sse_response([stream(chunks)])


def call(index, city="Paris", *, rest="", **members):
    arguments = json.dumps({"city": city}) + rest
    whole = {"index": index, "id": f"call_{index}", "type": "function", **members}
    return chunk({"tool_calls": [{**whole, "function": {"name": "get_weather", "arguments": arguments}}]})


def error(status, message, **headers):
    body = json.dumps({"error": {"message": message, "type": "t", "param": None, "code": None}}).encode()
    return plain_response(body, status, [("Content-Type", "application/json"), *headers.items()])


def response(part, *, end="response.completed", text=SCRIPTS["haiku"]):
    part = {"type": "output_text", "text": text, **part}
    message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part]}
    whole = {"id": "r", "object": "response", "created_at": 1, "model": "m", "output": [message], "status": "completed"}
    place = {"item_id": "m", "output_index": 0, "content_index": 0, "sequence_number": 1}
    return [
        {"type": "response.output_text.delta", "delta": text, "logprobs": [], **place},
        {"type": "response.content_part.done", "part": part, **place},
        {"type": end, "response": whole, "sequence_number": 2},
    ]


def models(*ids, **members):
    body = {"object": "list", "data": [{"id": each, "object": "model", "created": 1, **members} for each in ids]}
    return plain_response(json.dumps(body).encode())


def by_path(models, completion):
    """Answer the question for the models beside the completions, as a service does."""

    def play(connection, request):
        script = models if request.method == "GET" else completion
        return script(connection, request) if callable(script) else script

    return play


HAIKU = [SCRIPTS["haiku"]]
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
LAST = {**chunk({}), "choices": [], "usage": USAGE}
NO_CHOICE = {**chunk({}), "choices": []}
TEXT_CALL = conforming([SCRIPTS["tool"]])
COMPLETE_PART = {"annotations": [], "logprobs": []}


class TestRuns:
    """All releases with all clients."""

    def test_what_cannot_be_installed_is_named_with_the_reason(self, monkeypatch, tmp_path):
        """It is a failure where the environment says that it is required."""
        in_the_way = tmp_path / "file"
        in_the_way.touch()
        monkeypatch.setenv("FOUNDRY_SHIM_CACHE", str(in_the_way))
        monkeypatch.delenv("FOUNDRY_SHIM_REQUIRE", raising=False)
        run = runs.run_all(["1.2.4", "2.2.0"])
        assert (run.results, run.failed) == ([], False)
        assert set(run.not_run) == {*CLIENTS, "1.2.4", "2.2.0"}
        assert "cannot make releases/1.2.4" in run.not_run["1.2.4"]
        monkeypatch.setenv("FOUNDRY_SHIM_REQUIRE", "2.2.0")
        assert runs.run_all(["2.2.0"]).failed

    def test_service_that_does_not_start_is_a_failure(self, monkeypatch):
        """The other releases are run all the same."""

        def run_release(version, get_service, pythons):
            if version == "1.2.4":
                raise ServiceFailedError("no models")
            return right_results(version)

        monkeypatch.setattr(runs, "ready", lambda account, name, ensure: Path("python"))
        monkeypatch.setattr(runs, "run_release", run_release)
        run = runs.run_all(["1.2.4", "2.2.1"])
        assert run.failed
        assert run.not_run == {"1.2.4": "no models"}
        assert {result.release for result in run.results} == {"2.2.1"}

    def test_program_that_fails_says_why(self, capsys):
        """What it wrote to standard error is shown."""
        service = RunningService("1.2.4", "http://127.0.0.1:9/v1", "m")
        assert runs._probe(Path(sys.executable), service, [Cell("no such row", "plain", "sync")]) == {}
        assert "KeyError: 'no such row'" in capsys.readouterr().err


class TestOutcomes:
    """What a program gets out of an answer, in words; anything that is not right has words of its own."""

    @pytest.fixture(autouse=True)
    def _few_certificates(self, monkeypatch):
        """Nothing is encrypted here, and to read all certificates for each client takes longer than all the rest."""
        monkeypatch.setenv("SSL_CERT_FILE", "")
        monkeypatch.setenv("SSL_CERT_DIR", str(MATRIX))

    @pytest.mark.parametrize("mode", ["sync", "async"])
    @pytest.mark.parametrize(
        ("title", "script", "words"),
        [
            (STREAM, events(*conforming(HAIKU)), "whole text"),
            (STREAM, events(*conforming(["other"])), "other text"),
            (STREAM, events(*conforming([SCRIPTS["haiku"][:9]])), "part of the text"),
            (STREAM, events(*conforming([])), "no text"),
            (STREAM, events(*conforming(HAIKU, reason="length")), "whole text, finish reason length"),
            (STREAM, events(*conforming(HAIKU)[:-1]), "whole text, finish reason none"),
            (STREAM, events(*conforming(HAIKU), NO_CHOICE), "whole text, then IndexError"),
            (STREAM, events(*betalgo(HAIKU)), "whole text (odd id, role, fields)"),
            (STREAM, events(*conforming(HAIKU), chunk({}, of="another")), "whole text (odd id)"),
            (STREAM, events(*conforming(HAIKU), chunk({}, index=1)), "whole text (odd index)"),
            (STREAM, events(*conforming(HAIKU), {**chunk({}), "object": "x"}), "whole text (odd object)"),
            (STREAM, events(*conforming(HAIKU), chunk({"tool_calls": []})), "whole text (odd fields)"),
            (STREAM, events(), "nothing"),
            (STREAM, Hold(), "hangs"),
            ("`.stream()` helper", events(*conforming(HAIKU)), "whole text"),
            ("`.stream()` helper", events(*betalgo(HAIKU)), "whole text (odd id, role, fields)"),
            ("`.stream()` helper", events(*conforming(HAIKU), chunk({}, "stop", index=1)),
             "other text, finish reason stop and stop (odd index)"),
            ("usage not asked for", events(*conforming(HAIKU)), "no usage"),
            ("usage asked for", events(*conforming(HAIKU), LAST), "usage once, at the end"),
            ("usage asked for", events(*conforming(HAIKU)[:-1], chunk({}, "stop", usage=USAGE)),
             "usage once, beside text"),
            ("usage asked for", events(*betalgo(HAIKU)), "usage in each chunk (odd id, role, fields)"),
            ("usage asked for", events(chunk({"role": "assistant"}, usage=USAGE), *conforming(HAIKU)[1:], LAST),
             "usage in several chunks, the last one empty"),
            ("tools, one call", events(*TEXT_CALL), "call as text"),
            ("tools, two calls", events(*conforming([SCRIPTS["tools"]])), "calls as text"),
            ("tools, one call", events(chunk({"role": "assistant"}), call(0), chunk({}, "tool_calls")), "1 call"),
            ("tools, one call", events(chunk({"role": "assistant"}), call(0), chunk({}, "stop")),
             "1 call, finish reason stop"),
            ("tools, one call", events(*TEXT_CALL[:-1], call(0), chunk({}, "tool_calls")), "1 call and text"),
            ("tools, one call", events(chunk({"role": "assistant"}), call(0, "Rome"), chunk({}, "tool_calls")),
             "1 call not as made"),
            ("tools, one call", events(chunk({"role": "assistant"}), call(0, rest="}"), chunk({}, "tool_calls")),
             "1 call not as made"),
            ("tools, two calls",
             events(chunk({"role": "assistant"}), call(0), call(1, "Rome"), chunk({}, "tool_calls")),
             "2 calls"),
            ("tools, two calls",
             events(chunk({"role": "assistant"}), call(0), call(0, "Rome"), chunk({}, "tool_calls")),
             "1 call not as made"),
            ("tools, two calls",
             events(chunk({"role": "assistant"}), call(0), call(1, "Rome", id=None), chunk({}, "tool_calls")),
             "2 calls without ids"),
            ("bad parameter", error(400, "the temperature is too high"), "BadRequestError 400 that says why"),
            ("bad parameter", error(400, "no"), "BadRequestError 400"),
            ("bad parameter", error(500, "a.cc:22 void f(int) temperature"),
             "InternalServerError 500 that says why (with a place in C++)"),
            ("bad parameter", events(*conforming(HAIKU)[:-1], {"error": {"message": "temperature"}}),
             "whole text, finish reason none, then APIError that says why"),
            ("unknown model", error(404, "no-such-model is not here, loaded is"),
             "NotFoundError 404 that names it and what is loaded, 1 request"),
            ("unknown model", error(404, "no-such-model"), "NotFoundError 404 that names it, 1 request"),
            ("unknown model", error(404, "?"), "NotFoundError 404, 1 request"),
            ("too many tokens", error(500, "token", **{"retry-after-ms": "1"}),
             "InternalServerError 500 that says why, 3 requests"),
            ("model list", models("loaded", owned_by="x"), "the model"),
            ("model list", models("a", "b", owned_by="x"), "2 models"),
            ("model list", models("loaded:1"), "the model with fields missing"),
            ("model list", models("loaded:1", owned_by="x", IsDelta=False), "the model (odd fields)"),
            ("model list", error(404, "no"), "NotFoundError 404"),
            ("responses stream", events(*response(COMPLETE_PART)), "whole text"),
            ("responses stream", events(*response({"annotations": []})), "whole text without logprobs"),
            ("responses stream", events(*response({})), "whole text without annotations and logprobs"),
            ("responses stream", events(*response(COMPLETE_PART, text="x")), "other text"),
            ("responses stream", events(*response(COMPLETE_PART)[:1]), "whole text without an end"),
            ("responses stream", error(404, "no"), "NotFoundError 404"),
        ],
    )  # fmt: skip
    def test_outcome_is_named_alike_for_both_kinds_of_clients(self, title, script, words, mode):
        """The same for both kinds of clients."""
        deadline = 0.5 if words == "hangs" else 20.0
        with RawServer([script] if isinstance(script, Hold) else script) as server:
            target = Target("2.2.1", server.base_url, "loaded:1")
            assert outcome(Cell(title, "plain", mode), target, deadline) == words

    @pytest.mark.parametrize(("release", "script"), [("1.2.4", "array"), ("2.0.1", "array"), ("2.1.0", "tool")])
    def test_model_is_asked_for_a_call_that_it_must_make_in_the_form_of_the_release(self, release, script):
        """1.x and 2.0 let it write an array, 2.1 and later a block."""
        with RawServer(events(chunk({"role": "assistant"}), call(0), chunk({}, "tool_calls"))) as server:
            cell = Cell("tools, `required`", "plain", "sync")
            assert outcome(cell, Target(release, server.base_url, "loaded:1")) == "1 call"
            request = server.requests[0].json()
        assert request["messages"][0]["content"].startswith(marker(script))
        assert request["tool_choice"] == "required"

    @pytest.mark.parametrize("mode", ["sync", "async"])
    def test_shim_is_under_the_shims_clients(self, mode):
        """The same answer that is odd for the plain client."""
        with RawServer(events(*betalgo(HAIKU))) as server:
            target = Target("1.2.4", server.base_url, "loaded:1")
            assert outcome(Cell(STREAM, "shim", mode), target) == right_outcome(STREAM, "1.2.4")

    def test_request_without_streaming_is_counted_apart(self):
        """What the shim asks besides is not a retry."""
        nothing = sse_response([])
        refusal = error(400, "too many tokens")
        script = by_path(models("loaded:1", owned_by="x"), in_turn(marked(nothing), refusal))
        with RawServer(script) as server:
            said = outcome(Cell("too many tokens", "shim", "sync"), Target("1.2.4", server.base_url, "loaded:1"))
        assert said == "BadRequestError 400 that says why, 1 request and 1 without streaming"
        assert said == right_outcome("too many tokens", "1.2.4")

    def test_program_prints_a_line_for_each_cell(self):
        """As the runs read them."""
        with RawServer(by_path(models("loaded:1", owned_by="x"), events(*conforming(HAIKU)))) as server:
            service = RunningService("2.2.1", server.base_url, "loaded:1")
            left = [Cell(STREAM, "plain", "async"), Cell("model list", "shim", "sync")]
            said = runs._probe(Path(sys.executable), service, left)
        assert list(said.items()) == list(zip(left, ["whole text", "the model"], strict=True))
