"""The documents: what they show works, what they quote is what is printed, and every message and code is in them.

Every code block of the documents (README.md and its neighbours, docs/*.md) is run or checked. How is stated by its
language, or for one block by a comment right before it: ``<!-- live 2.2.1 -->`` has a Python block run against that
release, ``<!-- doctor 2.2.1 -->`` compares a text with what the doctor prints for it. A text right after a Python block
is what that prints. A block of any other kind fails.
"""

import ast
import asyncio
import contextlib
import io
import json
import os
import re
import shlex
import shutil
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
from checks.pictures import house
from checks.pictures.terminal import THEMES, text_of
from shim.cli import app
from shim.repairs import Repair, describe
from support.commands import command, lonely
from support.proxies import proxying
from support.raw_server import RawServer, plain_response, sse_response
from support.streams import betalgo, stream

pytestmark = pytest.mark.extended

ROOT = Path(__file__).parents[2]
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# What is replaced before a block is run: the address at which a person's service would be.
BASE_URL = "http://localhost:5273/v1"
# The address of the proxy.
PROXY = "http://127.0.0.1:5270"
# Names that a block of the README takes from the ones before it.
GIVEN = {"shim": shim, "openai": openai, "messages": [{"role": "user", "content": "Write me a haiku"}]}
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
    """Run a block as it stands, but for the address; as a coroutine if it awaits something."""
    printed = io.StringIO()
    names = dict(GIVEN)
    text = block.text.replace(BASE_URL, base_url)
    code = compile(text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    try:
        with contextlib.redirect_stdout(printed):
            if (coroutine := eval(code, names)) is not None:  # noqa: S307 - the project's own documents
                asyncio.run(finish(coroutine, names))
    finally:
        shim.uninstall()  # a block may have called `shim.install()`
    return printed.getvalue()


async def finish(coroutine, names):
    """Run a block that awaits something; close its client, as the end of a program would."""
    await coroutine
    for client in [each for each in names.values() if isinstance(each, openai.AsyncOpenAI)]:
        await client.close()


def answer(connection, request):
    """Answer as 1.x does: a list of one model, or a stream."""
    if request.method == "GET":
        models = [{"id": "m", "object": "model", "created": 1, "owned_by": "us"}]
        return plain_response(
            json.dumps({"object": "list", "data": models} if "/v1/" in request.path else models).encode()
        )
    return sse_response([stream(betalgo(["Cherry ", "blossoms"]))])


def without_chance(text: str) -> str:
    """The text without what is another in each run."""
    return re.sub(r"chatcmpl-[0-9a-f]{32}", "chatcmpl-…", text)


@pytest.mark.parametrize("block", of("python"))
def test_python_block_runs_and_prints_what_follows(block, monkeypatch):
    """It runs against a service that answers as 1.x does, and prints what the document says."""
    with RawServer(answer) as server:
        monkeypatch.setenv("FOUNDRY_LOCAL_ENDPOINT", server.base_url)
        printed = run(block, server.base_url)
        asked = [request for request in server.requests if request.method == "POST"]
        assert "completions.create(" not in block.text or len(asked) == 1
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
    for line in block.text.replace("\\\n", " ").splitlines():
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
        case "curl":
            check_request(arguments)
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


def check_request(arguments: list[str]) -> None:
    """What is sent is sent to the proxy, and answered; where there is no curl, the request is only read."""
    addresses = [word for word in arguments if word.startswith(f"{PROXY}/")]
    bodies = [json.loads(word) for word in arguments if word.startswith("{")]
    assert addresses
    with RawServer(answer) as server, proxying(server.base_url) as proxy:
        if shutil.which("curl") is None:
            return
        command = ["curl", "--silent", "--fail", *(word.replace(PROXY, proxy.url) for word in arguments)]
        answered = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert not bodies or "Cherry " in answered


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
        for target in re.findall(r"(?:\]\(|\bsrc=\"|\bsrcset=\")([^)\s\"]+)", without_blocks(text)):
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


def test_every_code_is_in_the_index():
    """The table at the start of the page links to each section, once."""
    index = DOCUMENTS["docs/repairs.md"].partition("\n## ")[0]
    assert sorted(re.findall(r"\[`[\w-]+`\]\(#([\w-]+)\)", index)) == sorted(Repair)


@pytest.mark.parametrize("code", list(Repair))
def test_a_section_says_what_the_rule_says(code):
    """It begins with the rule, as ``python tests/checks/repairs`` writes it; then follows what is wrong without it."""
    section = f"### `{code}`{sections(DOCUMENTS['docs/repairs.md'])[f'`{code}`']}"
    said = f"{describe(code)}\n- **Without it:** "
    assert section.startswith(said)
    assert section.removeprefix(said).strip()


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


# The README.


def test_readme_is_short():
    """It is read to its end: fewer than 1,000 words, at most 150 lines."""
    text = DOCUMENTS["README.md"]
    assert len(text.split()) < 1000
    assert len(text.splitlines()) <= 150


def test_nothing_is_installed_from_an_index_that_does_not_have_it():
    """The package is not published: what people are asked to install is a clone, an archive or an address."""
    texts = {
        path: path.read_text(encoding="utf-8") for path in (*ROOT.glob("examples/**/*.py"), *ROOT.glob("shim/**/*.py"))
    }
    for place, text in {**DOCUMENTS, **texts}.items():
        assert not re.search(rf"install [^\n]*{PROJECT['name']}(?!\S* @)", text), place


def test_changelog_begins_with_this_version():
    """The version that is built has its section."""
    versions = re.findall(r"^## \[?([^\]\s]+)", DOCUMENTS["CHANGELOG.md"], re.MULTILINE)
    assert next(each for each in versions if each != "Unreleased") == PROJECT["version"]


# The pictures.

PICTURES = ROOT / "docs" / "pictures"
SVGS = sorted((*(ROOT / "docs").glob("*.svg"), *PICTURES.glob("*.svg")))
LARGEST = 150_000


@pytest.mark.parametrize("path", SVGS, ids=lambda path: path.name)
def test_pictures_are_whole(path):
    """Each is XML that a browser shows, with a title, and there is one for the dark."""
    picture = path.read_text(encoding="utf-8")
    root = ET.fromstring(picture)  # noqa: S314 - a file of this repository
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.find("{http://www.w3.org/2000/svg}title").text
    other = path.with_name(path.name.replace("-light", "-dark"))
    assert "prefers-color-scheme: dark" in picture or (other.exists() and path.stem.endswith(("-light", "-dark")))


def test_pictures_are_small():
    """A page with all of them loads quickly."""
    assert {path.name: size for path in PICTURES.iterdir() if (size := path.stat().st_size) > LARGEST} == {}


def test_every_picture_is_shown():
    """None is left over from a document that has changed."""
    shown = {Path(target).name for _, target in links()}
    assert {path.name for path in PICTURES.iterdir()} - shown == set()


def test_picture_of_the_demo_is_what_the_demo_prints(tmp_path):
    """The pictures in the light and in the dark show the same, and that is what is printed."""
    printed = subprocess.run(
        command("demo"), capture_output=True, encoding="utf-8", check=True, env={**lonely(tmp_path), "COLUMNS": "80"}
    ).stdout
    wanted = [without_gaps(line) for line in printed.splitlines() if line.strip()]
    for theme in THEMES:
        shown = [without_gaps(line) for line in text_of(read_picture(f"demo-{theme}"))]
        assert shown == wanted[: len(shown)]
        assert any("IndexError" in line for line in shown)


def test_picture_of_the_doctor_is_what_the_doctor_prints(get_service, tmp_path):
    """Every line stands in its output, in this order."""
    service = get_service("1.2.4")
    env = {**lonely(tmp_path), "COLUMNS": "100"}
    done = subprocess.run(
        command("doctor", "--base-url", service.base_url), capture_output=True, encoding="utf-8", check=True, env=env
    )
    printed = without_gaps(steady(done.stdout.replace("\n", " ")))
    for theme in THEMES:
        place = 0
        for line in text_of(read_picture(f"doctor-{theme}")):
            place = printed.index(without_gaps(steady(line)), place)


def test_picture_of_the_house_is_that_of_the_code():
    """`python tests/checks/pictures house` would change nothing."""
    assert house.picture() == (PICTURES / "house.svg").read_text(encoding="utf-8")


def read_picture(name: str) -> str:
    return (PICTURES / f"{name}.svg").read_text(encoding="utf-8")


def without_gaps(line: str) -> str:
    return " ".join(line.split())


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
