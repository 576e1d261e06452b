"""The doctor on the real services: the right generation, the right deviations, and the service as it was before."""

import openai
import pytest

import shim
from checks.request_fields.table import DOCUMENT, examine, results_in
from shim.doctor import as_markdown, diagnose
from shim.doctor.examination import PROBES
from shim.repairs import Repair
from support.scripted_model import SCRIPTS, marker

GENERATIONS = {
    "1.0.0": "1.0",
    "1.1.0": "1.1 to 1.2",
    "1.2.4": "1.1 to 1.2",
    "2.0.1": "2.0",
    "2.1.0": "2.1 to 2.2",
    "2.2.0": "2.1 to 2.2",
    "2.2.1": "2.1 to 2.2",
}
OF_1_X = {"id", "foreign-members", "role", "message-beside-delta", "empty-tool-calls", "usage", "body-members"}


def found(diagnosis):
    return {finding.probe: finding for finding in diagnosis.findings}


def test_generation_is_recognized_and_deviations_are_repaired(service):
    """Each release is recognized; all of its deviations are found, repaired, and listed in the report."""
    diagnosis = diagnose(service.base_url)
    assert diagnosis.generation == GENERATIONS[service.version]
    assert diagnosis.model == service.model_id
    assert [finding.probe for finding in diagnosis.findings] == list(PROBES)
    assert diagnosis.is_usable
    assert "skipped" not in {finding.verdict for finding in diagnosis.findings}
    codes = set(diagnosis.deviations)
    if service.version.startswith("1."):
        assert codes >= OF_1_X
        assert "content-type" not in codes
        assert "parameter-ignored" in {problem.code for problem in diagnosis.all_problems}
    else:
        assert codes == {"content-type", "error-body", "error-status"}
    report = as_markdown(diagnosis)
    assert GENERATIONS[service.version] in report
    assert all(f"| {code} |" in report for code in codes)
    assert not [word for word in SCRIPTS["haiku"].replace(",", "").split() if len(word) > 3 and word in report]
    assert service.alive


def test_each_side_is_shown(service):
    """Without the shim it fails where the release makes it fail; with it it gets the answer, or the reason."""
    findings = found(diagnose(service.base_url))
    first_generation = service.version.startswith("1.")
    fails = first_generation and service.version != "1.0.0"
    assert ("IndexError" in findings["stream"].without_shim) is fails
    assert findings["stream"].with_shim == "text in 16 chunks, finish reason length"
    assert findings["unknown model"].with_shim.startswith("NotFoundError 404: ")
    assert findings["unknown model"].without_shim.startswith("NotFoundError 404: ") is not first_generation
    assert "token" in findings["too many tokens"].with_shim
    assert findings["usage"].with_shim.endswith("usage once, at the end") or service.version == "1.0.0"
    assert findings["stream"].timing.first > 0
    assert len(findings["stream"].timing.gaps) == 15


def test_tool_calls_are_examined(service):
    """A model that calls a function: as text in some releases, and a call with the shim in all."""
    finding = found(diagnose(service.base_url, prompt=marker("tool")))["tools"]
    assert finding.with_shim == "1 tool call, finish reason tool_calls"
    as_text = service.version.startswith("1.") or service.version == "2.0.1"
    assert ("tool-call-text" in {deviation.code for deviation in finding.deviations}) is as_text
    assert finding.without_shim.startswith("text in") is as_text


@pytest.mark.parametrize("given", ["origin", "status"])
def test_address_is_accepted_in_any_form(service, given):
    """The address of the server alone, or of its status page, is enough."""
    origin = service.base_url.removesuffix("/v1").removesuffix("/catalogs/local")
    diagnosis = diagnose(origin if given == "origin" else f"{origin}/openai/status")
    assert diagnosis.base_url == service.base_url
    assert diagnosis.is_usable


def test_document_shows_which_fields_are_honoured(service):
    """docs/releases.md has what the doctor finds."""
    results = results_in(DOCUMENT.read_text(encoding="utf-8"))
    assert examine(service.base_url) == results[service.version]
    assert service.alive


def test_schema_is_enforced_in_the_form_of_openai(service):
    """Since 2.1 the value of `json_schema` is taken for the schema; OpenAI puts that into its field `schema`."""
    schema = {"type": "object", "properties": {"answer": {"type": "boolean"}}, "required": ["answer"]}
    wrapper = {"name": "answer", "schema": schema}
    texts = []
    for value, off in ((wrapper, set()), (wrapper, {"request-schema"}), (schema, set())):
        with shim.OpenAI(base_url=service.base_url, policy=shim.Policy(off=frozenset(off))) as client:
            completion = client.chat.completions.create(
                model=service.model_id,
                messages=[{"role": "user", "content": marker("haiku")}],
                response_format={"type": "json_schema", "json_schema": value},
                max_tokens=32,
            )
        texts.append(completion.choices[0].message.content.lstrip())
    enforces = service.version.startswith(("2.1", "2.2"))
    assert [text.startswith("{") for text in texts] == [enforces, False, enforces]


@pytest.mark.parametrize("stream", [True, False])
def test_schema_that_cannot_be_enforced_is_no_error(service, stream):
    """2.1 and later refuse some keywords of JSON schemas; in the form of OpenAI they have never looked at them."""
    schema = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    with shim.OpenAI(base_url=service.base_url) as client:
        answer = client.chat.completions.create(
            model=service.model_id,
            messages=[{"role": "user", "content": marker("haiku")}],
            response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
            max_tokens=32,
            stream=stream,
        )
        choices = [chunk.choices[0] for chunk in answer] if stream else answer.choices
    texts = [(choice.delta if stream else choice.message).content or "" for choice in choices]
    assert "blossoms fall" in "".join(texts)


@pytest.mark.parametrize("stream", [True, False])
def test_ignored_field_is_reported_and_logged_once(service, stream, caplog):
    """The answer shows it: no release sends a second choice."""
    with shim.OpenAI(base_url=service.base_url) as client, shim.capture_repairs() as captured:
        with caplog.at_level("INFO", logger="shim"):
            answer = client.chat.completions.create(
                model=service.model_id,
                messages=[{"role": "user", "content": marker("haiku")}],
                n=2,
                stream=stream,
            )
            for _ in answer if stream else ():
                pass
    assert captured.repairs[Repair.REQUEST_IGNORED] == 1
    lines = [record.getMessage() for record in caplog.records if "request-ignored" in record.getMessage()]
    assert len(lines) == 1


def test_ignored_field_is_an_error_of_a_strict_policy(service):
    """Everything else is repaired before: nothing but the field may be an error."""
    off = frozenset(code.value for code in Repair) - {"request-ignored"}
    policy = shim.Policy(strict=True, off=off)
    with (
        shim.OpenAI(base_url=service.base_url, policy=policy, max_retries=0) as client,
        pytest.raises(openai.APIError, match=r"ignored n of the request"),
    ):
        client.chat.completions.create(
            model=service.model_id, messages=[{"role": "user", "content": marker("haiku")}], n=2
        )
