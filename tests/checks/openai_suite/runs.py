"""Runs of openai's own tests: without the shim, with it, and with its fast path; and what is different."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from checks.openai_suite.environments import ENVIRONMENTS, VERSIONS
from shim.offline.fetch import cache_root
from support.clients import client_environment
from support.environments import REPOSITORY, Unprovisioned

DOWNLOAD_SECONDS = 600
RUN_SECONDS = 1200
TRIES = 3
WITH_SHIM, FAST = ("--with-shim",), ("--with-shim", "--fast")
# Those of openai's tests that are about answers: streamed, raw, and what is made of them.
TESTS = (
    "tests/test_streaming.py",
    "tests/test_sse_framing.py",
    "tests/test_stream_mode.py",
    "tests/test_response.py",
    "tests/test_legacy_response.py",
    "tests/test_status_error_messages.py",
    "tests/test_client.py",
    "tests/test_module_client.py",
    "tests/test_httpx2.py",
    "tests/lib/chat",
    "tests/lib/responses",
    "tests/lib/test_streaming_deltas.py",
)
RECORDINGS = Path(".inline-snapshot") / "external"
_CHAT = "tests/lib/chat/test_completions_streaming.py::"
_USAGE = "the recording has a chunk with usage that the request did not ask for; the shim removes such a chunk (usage)"
_WRAPPED = "tests/test_streaming.py::test_request_errors_are_wrapped"
_CREATED = "its chunks are of 1970 (`created: 0`); the shim sets the time (created), and the test compares whole chunks"
_OBJECT = "the service's error has members missing, or is no JSON; the shim makes it OpenAI's error object (error-body)"
_EMPTY = "gets status 200 without an answer in it, which is an error: a failure never looks like a success"
_RETRIES = (
    "retries_taken",
    "retries_taken_new_response_class",
    "omit_retry_count_header",
    "overwrite_retry_count_header",
)
_NULL_TEXT = (
    "its texts are null or missing, on which openai 1.x and 2.x fail; the shim makes them empty, and the test compares "
    "the whole output with what was sent"
)
EXCEPTIONS: dict[str, str] = {
    **{
        f"tests/test_client.py::Test{kind}OpenAI::test_{name}": _EMPTY
        for kind in ("", "Async")
        for name in (*_RETRIES, "api_key_refresh_on_retry", "bearer_token_refresh_async")
    },
    "tests/lib/responses/test_responses.py::test_output_text_with_nullable_content": _NULL_TEXT,
    "tests/lib/responses/test_responses.py::test_responses_helpers_forward_image_options": _EMPTY,
    "tests/lib/responses/test_responses.py::test_responses_helpers_forward_background_options": _EMPTY,
    f"{_CHAT}test_parse_pydantic_model": _USAGE,
    f"{_CHAT}test_parse_pydantic_model_multiple_choices": _USAGE,
    "tests/lib/chat/test_stream_moderation.py::test_stream_moderation": _USAGE,
    "tests/lib/chat/test_tool_call_deltas.py::test_duplicate_tool_call_deltas": _CREATED,
    "tests/lib/chat/test_tool_call_deltas.py::test_async_duplicate_tool_call_deltas": _CREATED,
    "tests/test_client.py::TestOpenAI::test_api_error_code_is_string[code_fields5-": _OBJECT,
    "tests/test_client.py::TestAsyncOpenAI::test_api_error_code_is_string[code_fields5-": _OBJECT,
    "tests/test_status_error_messages.py::test_status_error_message": _OBJECT,
    "tests/test_client.py::TestOpenAI::test_multipart_retry_rewinds_seekable_file[closed-file": _OBJECT,
    "tests/test_client.py::TestAsyncOpenAI::test_multipart_retry_rewinds_seekable_file[closed-file": _OBJECT,
    "tests/test_streaming.py::test_done_http11_connection_reuse": (
        "the stream has no finish reason before its end marker; the shim writes the chunk that is owed (finish-reason)"
    ),
    f"{_WRAPPED}[httpx2-RemoteProtocolError-APIConnectionError-before-first-event": (
        "wants an error of the connection where it breaks before the first event; the shim asks the service why "
        "(empty-stream), and tells that"
    ),
    "tests/test_httpx2.py::test_provider_auth_and_stream_consumed_families": (
        "wants an error from whoever reads a list of models twice; the shim has read it whole, so it can be read again"
    ),
}
"""Tests that do not pass with the shim, and why that is meant: all of a name, or those whose parameters begin so."""


def exception(test: str) -> str | None:
    """The name of the exception that a test falls under."""
    return next((name for name in EXCEPTIONS if f"{test}[".startswith(name if "[" in name else f"{name}[")), None)


@dataclass
class Suite:
    """How the tests of one release of openai went.

    Attributes:
        version: The release.
        plain: The outcome of each test without the shim.
        repaired: The same with it.
        fast: The same with its fast path.
        clients: Under how many clients the shim was put.
        told: What the run with the shim printed.
    """

    version: str
    plain: dict[str, str] = field(default_factory=dict[str, str])
    repaired: dict[str, str] = field(default_factory=dict[str, str])
    fast: dict[str, str] = field(default_factory=dict[str, str])
    clients: int = 0
    told: str = ""

    @property
    def lost(self) -> dict[str, str]:
        """What passes without the shim and not with it."""
        return {
            test: outcome
            for with_shim in (self.fast, self.repaired)
            for test in self.plain
            if self.plain[test] == "passed" and (outcome := with_shim.get(test, "not run")) != "passed"
        }

    @property
    def differences(self) -> dict[str, str]:
        """What is lost and is no exception."""
        return {test: outcome for test, outcome in self.lost.items() if exception(test) is None}

    def count(self, outcomes: dict[str, str], outcome: str = "passed") -> int:
        """How many tests ended so."""
        return list(outcomes.values()).count(outcome)


def run_suite(major: int, recordings: Path | None = None) -> Suite:
    """Run the tests of a major, without the shim, with it, and with its fast path.

    What fails with the shim alone is tried again, since some of openai's tests measure times.

    Args:
        major: Of openai.
        recordings: A folder of the recordings that some tests replay and the source distribution lacks. They are kept.

    Raises:
        Unprovisioned: The environment or the source distribution is not to be had.
    """
    python = ENVIRONMENTS[major].ensure()
    source = ensure_source(major)
    if recordings is not None:
        shutil.copytree(recordings, source / RECORDINGS, dirs_exist_ok=True)
    chosen = [name for name in TESTS if (source / name).exists()]
    suite = Suite(VERSIONS[major])
    suite.plain, _, _ = _run(python, source, chosen)
    for outcomes, options in ((suite.repaired, WITH_SHIM), (suite.fast, FAST)):
        found, suite.clients, told = _run(python, source, chosen, *options)
        outcomes.update(found)
        suite.told += told
    for _ in range(TRIES - 1):
        if not suite.differences:
            break
        again = list(suite.differences)
        for outcomes, options in ((suite.repaired, WITH_SHIM), (suite.fast, FAST)):
            found, _, told = _run(python, source, again, *options)
            outcomes.update(found)
            suite.told += told
    return suite


def source_folder(major: int) -> Path:
    """Where the source distribution of a major lies or will lie."""
    return cache_root().absolute() / "openai-sdist" / f"openai-{VERSIONS[major]}"


def ensure_source(major: int) -> Path:
    """The source distribution of a major, fetched if it is not in the cache yet.

    Raises:
        Unprovisioned: It cannot be fetched.
    """
    folder = source_folder(major)
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as work:
            subprocess.run(
                [
                    ENVIRONMENTS[major].ensure(), "-I", "-m", "pip", "--disable-pip-version-check", "--no-input",
                    "download", "--quiet", "--no-deps", "--no-binary", "openai", f"openai=={VERSIONS[major]}",
                    "--dest", work,
                ],
                check=True, timeout=DOWNLOAD_SECONDS, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            )  # fmt: skip
            (archive,) = Path(work).glob("*.tar.gz")
            shutil.unpack_archive(archive, work, filter="data")
            try:
                (Path(work) / folder.name).rename(folder)
            except OSError:
                if not folder.is_dir():  # otherwise another process was faster, with the same result
                    raise
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or ""
        message = f"cannot fetch the source distribution of openai {VERSIONS[major]}: {error}\n{said}"
        raise Unprovisioned(message) from error
    return folder


def _run(python: Path, source: Path, tests: Sequence[str], *options: str) -> tuple[dict[str, str], int, str]:
    """The outcome of each test, the number of clients with the shim under them, and what was printed."""
    with tempfile.TemporaryDirectory() as folder:
        outcomes = Path(folder) / "outcomes.json"
        ran = subprocess.run(
            [
                python, "-m", "pytest", "-q", "--no-header", "-o", "addopts=", "-p", "no:cacheprovider",
                "-p", "checks.openai_suite.plugin", "--tb=short", "--outcomes", outcomes, *options, *tests,
            ],
            cwd=source, env=_environment(), timeout=RUN_SECONDS, check=False, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace",
        )  # fmt: skip
        if not outcomes.exists():
            message = f"the tests of openai did not run:\n{ran.stdout[-4000:]}"
            raise RuntimeError(message)
        noted = json.loads(outcomes.read_text(encoding="utf-8"))
    return noted["tests"], noted["clients"], ran.stdout


def _environment() -> dict[str, str]:
    """Variables for a run, without those that change what openai's clients do."""
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    variables = client_environment(PYTHONPATH=paths, PYTHONDONTWRITEBYTECODE="1")
    ours = ("PYTEST_", "OPENAI_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_")
    return {name: value for name, value in variables.items() if not name.upper().startswith(ours)}
