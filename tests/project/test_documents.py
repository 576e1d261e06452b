"""The documents: what they show works, what they quote is what is printed, and every message and code is in them.

Every code block of README.md, CONTRIBUTING.md and docs/*.md is run or checked. How is said by its language, or for one
block by a comment right before it: ``<!-- live 2.2.1 -->`` has a Python block run against that release, ``<!-- doctor
2.2.1 -->`` compares a text with what the doctor says of it. A text right behind a Python block is what that prints.
What nobody has provided for fails.
"""

import ast
import contextlib
import io
import os
import re
import runpy
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import openai
import pytest
from typer.main import get_command

import shim
from shim.cli import app
from shim.repairs import RULES, Repair
from support.commands import command, lonely
from support.raw_server import RawServer, sse_response
from support.streams import betalgo, stream

pytestmark = pytest.mark.extended

ROOT = Path(__file__).parents[2]
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# What is replaced before a block is run: the address at which a person's service would be.
BASE_URL = "http://localhost:5273/v1"
# Names that a block of the README takes from the one before it.
GIVEN = {"shim": shim, "openai": openai}
# Programs whose options are not checked, and why.
NOT_CHECKED = {
    "git": "changes the repository",
    "ruff": "run by .ci/run",
    "pyright": "run by .ci/run",
    ".ci/run": "takes minutes, and is what runs this test",
}
# Modules that come with Python and with the extra `test`; those of the shim are programs, too.
KNOWN_MODULES = {"venv", "pytest"}


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        document: Where it stands.
        line: In which line it begins.
        language: What stands behind the fence.
        text: What is in it.
        declared: The comment right before it.
        printed: The text right behind a Python block: what it prints.
    """

    document: str
    line: int
    language: str
    text: str
    declared: str = ""
    printed: str | None = None

    def __str__(self):
        return f"{self.document}:{self.line}"


def blocks() -> list[Block]:
    """All of them, what a Python block prints with it."""
    found: list[Block] = []
    pattern = r"(?:^<!-- (?P<declared>[^\n]*?) -->\n)?^(?P<indent> *)```(?P<language>\S*)\n(?P<text>.*?)^ *```$"
    for document, text in DOCUMENTS.items():
        for match in re.finditer(pattern, text, re.MULTILINE | re.DOTALL):
            body = re.sub(f"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
            line = text[: match.start("text")].count("\n")
            block = Block(document, line, match["language"], body, match["declared"] or "")
            last = found[-1] if found else block
            if (
                block.language == "text"
                and not block.declared
                and (last.document, last.language) == (document, "python")
            ):
                found[-1] = replace(last, printed=body)
            else:
                found.append(block)
    return found


BLOCKS = blocks()


def of(language: str, *, live: bool = False) -> list[pytest.param]:
    return [
        pytest.param(block, id=str(block))
        for block in BLOCKS
        if block.language == language and bool(block.declared) is live
    ]


def test_every_block_is_checked():
    """Each block is of a kind that one of the tests below takes."""
    kinds = {(block.language, block.declared.partition(" ")[0]) for block in BLOCKS}
    assert kinds == {("python", ""), ("python", "live"), ("sh", ""), ("text", "doctor")}


# Python.


def run(block: Block, base_url: str) -> str:
    """Run a block as it stands, but for the address."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block.text.replace(BASE_URL, base_url), str(block), "exec"), dict(GIVEN))  # noqa: S102
    return printed.getvalue()


def without_chance(text: str) -> str:
    """The text without what is another in each run."""
    return re.sub(r"chatcmpl-[0-9a-f]{32}", "chatcmpl-…", text)


@pytest.mark.parametrize("block", of("python"))
def test_python_block_runs_and_prints_what_follows(block):
    """It runs against a service that answers as 1.x does, and prints what the document says."""
    with RawServer(sse_response([stream(betalgo(["Cherry ", "blossoms"]))])) as server:
        printed = run(block, server.base_url)
        assert "completions.create(" not in block.text or len(server.requests) == 1
        assert "print(chunk" not in block.text or printed.startswith("Cherry blossoms")
    if block.printed is not None:
        assert without_chance(printed) == without_chance(block.printed)


@pytest.mark.parametrize("block", of("python", live=True))
def test_python_block_runs_against_a_release(block, get_service):
    """It prints what the document says of that release."""
    printed = run(block, get_service(block.declared.removeprefix("live ")).base_url)
    assert printed == block.printed


@pytest.mark.parametrize("block", of("text", live=True))
def test_doctor_prints_the_quoted_lines(block, get_service, tmp_path):
    """Every quoted line is one of those that the doctor prints for that release, in this order."""
    service = get_service(block.declared.removeprefix("doctor "))
    done = subprocess.run(
        command("doctor", "--base-url", service.base_url),
        capture_output=True,
        encoding="utf-8",
        check=True,
        env=lonely(tmp_path),
    )
    printed = iter([steady(line) for line in done.stdout.splitlines()])
    for line in block.text.splitlines():
        wanted = steady(line).removesuffix(" …")
        if wanted != "…":
            assert any(said == wanted or (line.endswith(" …") and said.startswith(wanted)) for said in printed), line


def steady(line: str) -> str:
    """A line of the doctor's without the port, the padding, and a code that comes only at the turn of a second."""
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:…", line).replace("created, ", "").rstrip()


# The shell.


def commands(block: Block) -> Iterator[list[str]]:
    """The simple commands of a block, as words."""
    for line in block.text.splitlines():
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), "&&"]:
            if word in ("&&", "|"):
                if words:
                    yield words
                words = []
            else:
                words.append(word)


@pytest.mark.parametrize("block", of("sh"))
def test_commands_exist(block):
    """Every command of a shell block is there and takes these options."""
    found = list(commands(block))
    assert found
    for words in found:
        check_command(words)


def check_command(words: list[str]) -> None:
    program, *arguments = words
    match program.removeprefix(".venv/bin/"):
        case "foundry-shim":
            check_shim(arguments)
        case "pip":
            check_install(arguments)
        case "python" | "python3":
            check_python(arguments)
        case program:
            assert program in NOT_CHECKED
            assert not program.startswith(".") or os.access(ROOT / program, os.X_OK)


def check_shim(arguments: list[str]) -> None:
    """The command line parses; nothing is run."""
    group = get_command(app)
    name, *options = arguments
    # Files that a person would have are not here.
    group.commands[name].make_context(name, options)


def check_install(arguments: list[str]) -> None:
    """What is installed is this package, with extras that it has."""
    verb, *rest = arguments
    assert verb == "install"
    packages = [word for word in rest if word not in ("-e", "--upgrade")]
    for package in packages:
        name, _, extras = package.rstrip("]").partition("[")
        assert name in (".", PROJECT["name"])
        assert {extra for extra in extras.split(",") if extra} <= set(PROJECT["optional-dependencies"])
    assert packages


def check_python(arguments: list[str]) -> None:
    if arguments[0] == "-m":
        module = arguments[1]
        paths = [word.partition("::")[0] for word in arguments[2:] if word.startswith("tests/")]
        assert all((ROOT / path).exists() for path in paths)
        assert module in KNOWN_MODULES or module.startswith("shim")
    else:
        script, *options = arguments
        asked = [word for word in options if word.startswith("--")]
        assert (ROOT / script).exists()
        assert set(asked) <= options_of(script)


@cache
def options_of(script: str) -> frozenset[str]:
    """The options that a program of the tests or examples declares."""
    path = ROOT / script
    source = (path / "__main__.py" if path.is_dir() else path).read_text(encoding="utf-8")
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    declared = (node for node in calls if getattr(node.func, "attr", "") == "add_argument")
    names = (argument for node in declared for argument in node.args)
    return frozenset(name.value for name in names if isinstance(name, ast.Constant))


def test_a_wrong_command_is_found():
    """The checks of commands can fail."""
    for line in (
        "foundry-shim doctor --no-such-option",
        "foundry-shim no-such-command",
        'pip install "foundry-local-shim[no-such-extra]"',
        "python tests/checks/matrix --no-such-option",
        "python tests/no-such-folder",
        "python -m pytest tests/unit/test_nothing.py",
        "no-such-program",
    ):
        with pytest.raises(Exception):  # noqa: B017, PT011 - typer's own class differs by its release
            check_command(shlex.split(line))


# Links.


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def without_blocks(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)


def links() -> Iterator[tuple[str, str]]:
    for document, text in DOCUMENTS.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(text)):
            if not target.startswith(("http://", "https://")):
                yield document, target


@pytest.mark.parametrize(("document", "target"), sorted(set(links())))
def test_links_lead_somewhere(document, target):
    """A relative link names a file that is there, and an anchor a heading in it."""
    path, _, anchor = unquote(target).partition("#")
    place = (ROOT / document).parent / path if path else ROOT / document
    assert place.exists()
    if anchor:
        assert anchor in anchors(place.read_text(encoding="utf-8"))


def test_every_document_is_linked():
    """No page of docs/ is found by its name alone."""
    linked = {Path(target.partition("#")[0]).name for _, target in links()}
    assert {path.name for path in (ROOT / "docs").glob("*.md")} <= linked


# The repairs.


def sections(text: str) -> dict[str, str]:
    """The third-level sections of a document, by heading."""
    parts = re.split(r"^### (.*)$", text, flags=re.MULTILINE)
    return {heading: body.partition("\n## ")[0] for heading, body in zip(parts[1::2], parts[2::2], strict=True)}


def test_every_code_has_a_section():
    """There is one for each code, and none besides."""
    assert set(sections(DOCUMENTS["docs/repairs.md"])) == {f"`{code}`" for code in Repair}


@pytest.mark.parametrize("code", list(Repair))
def test_a_section_says_what_the_rule_says(code):
    """The rule stands there word for word, with what happens without the repair."""
    rule = RULES[code]
    section = " ".join(sections(DOCUMENTS["docs/repairs.md"])[f"`{code}`"].split())
    said = f"- **When:** {rule.when} - **What is done:** {rule.action} - **Seen:** {rule.evidence} - **Without it:** "
    assert section.startswith(said)
    assert section.removeprefix(said)


# The messages.

# Errors of which a person sees the message alone, or the code beside it: the argument that holds it.
TOLD = {
    "StreamError": 0,
    "ServiceError": 0,
    "CatalogUnreachableError": 0,
    "_NotFoundryError": 1,
    "TypeError": 0,
    "Problem": 0,
    "RefusedError": 2,
    "error_object": 2,
    "_error": 2,
    "_told": 0,
    "warning": 0,
    "exception": 0,
}


def messages() -> Iterator[tuple[str, str]]:
    """What the shim says of its own accord, place by place: its code if it has one, else the longest fixed words."""
    for path in sorted((ROOT / "shim").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assigned = [
            (node.lineno, node.targets[0].id, node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        ]
        for node in ast.walk(tree):
            name = getattr(getattr(node, "func", None), "id", getattr(getattr(node, "func", None), "attr", ""))
            if not isinstance(node, ast.Call) or len(node.args) <= TOLD.get(name, len(node.args)):
                continue
            code = [word.value for word in node.keywords if word.arg == "code"]
            said = code[0] if code else node.args[TOLD[name]]
            if isinstance(said, ast.Name):
                # The last that was assigned to it before.
                said = max(
                    (each for each in assigned if each[0] < node.lineno and each[1] == said.id), default=(0, "", None)
                )[2]
            if words := fixed_words(said):
                yield f"{path.relative_to(ROOT).as_posix()}:{node.lineno}", words


def fixed_words(said: ast.AST | None) -> str:
    """The longest part of a message that is the same each time; the whole of a code."""
    if isinstance(said, ast.Constant) and isinstance(said.value, str):
        return said.value.partition(". ")[0].rstrip(".")
    if not isinstance(said, ast.JoinedStr):
        return ""
    fixed = [part.value for part in said.values if isinstance(part, ast.Constant)]
    return max((sentence.strip(" .,:;()'") for part in fixed for sentence in part.split(". ")), key=len, default="")


MESSAGES = sorted(set(messages()))


def test_messages_are_found():
    """The search in the source finds what it is for."""
    found = {words for _, words in MESSAGES}
    assert found >= {"stream_truncated", "no-service", "host_refused", "damaged_body", "has no genai_config.json"}


@pytest.mark.parametrize(("place", "words"), MESSAGES)
def test_every_message_is_in_troubleshooting(place, words):
    """A person who looks for the code or the words of a message finds them."""
    page = " ".join(DOCUMENTS["docs/troubleshooting.md"].split())
    assert words.replace("%s", "…") in page


# Messages that the search does not find: they are put together where no error is raised.
OTHERS = [
    ("shim/transport/explain.py", "Nothing answers at "),
    ("shim/core/error_bodies.py", "The service reports a failure without a reason."),
    ("shim/core/error_bodies.py", " without a reason."),
    ("shim/core/error_bodies.py", " with an HTML page"),
    ("shim/cli/models.py", "No service runs, and Foundry's catalog is empty"),
    ("shim/cli/models.py", "It lists no model."),
    ("shim/cli/models.py", "It has models in its local catalog: "),
]


@pytest.mark.parametrize(("path", "words"), OTHERS)
def test_every_other_message_is_in_troubleshooting(path, words):
    """Those are in the source as they are quoted, and in the document."""
    assert words in (ROOT / path).read_text(encoding="utf-8")
    assert words.strip() in " ".join(DOCUMENTS["docs/troubleshooting.md"].split())


# The pictures.


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.svg")), ids=lambda path: path.name)
def test_pictures_are_whole(path):
    """Each is XML that a browser shows, with a title, and with colours for the dark."""
    picture = path.read_text(encoding="utf-8")
    root = ET.fromstring(picture)  # noqa: S314 - a file of this repository
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.find("{http://www.w3.org/2000/svg}title").text
    assert "prefers-color-scheme: dark" in picture


def test_the_terminal_is_what_its_program_draws():
    """The picture of the README is drawn from the text that it shows, and by nothing else."""
    path = ROOT / "docs" / "haiku.svg"
    program = runpy.run_path(str(ROOT / "docs" / "picture.py"))
    drawn = path.read_text(encoding="utf-8")
    root = ET.fromstring(drawn)  # noqa: S314 - a file of this repository
    first, *lines = ["".join(row.itertext()) for row in root.iter("{http://www.w3.org/2000/svg}text")]
    asked = root.find("{http://www.w3.org/2000/svg}title").text
    assert first == f"$ {asked}"
    assert program["picture"](asked, "\n".join(lines)) == drawn
    assert any(line.startswith("Using Foundry Local endpoint at http://") for line in lines)


# The workflows.


def test_workflows_call_the_same_command():
    """GitHub runs .ci/run, and the README's command on every supported Python; a release is built after both."""
    ci = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    release = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    assert re.findall(r"^ +run: (\.ci/.*)$", ci, re.MULTILINE) == [".ci/run"]
    assert "      - run: python -m pytest\n" in ci
    supported = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", each)]
    assert re.findall(r"python: \[(.*)\]", ci) == [", ".join(f'"{version}"' for version in supported)]
    assert "uses: ./.github/workflows/ci.yml" in release
    assert "needs: [test, build]" in release
