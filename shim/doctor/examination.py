"""The examination of a service, or of a recorded answer: every probe, each with a deadline."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import httpx

from shim.capture.recording import Recording, RecordingTransport, ReplayTransport
from shim.capture.redaction import redact
from shim.core.jsontext import load_object
from shim.core.sse import DONE, Frame, Framer
from shim.doctor.diagnosis import Deviation, Diagnosis, Finding, Problem, Timing
from shim.doctor.identity import Identity, choose_model, identify
from shim.doctor.probes import REPLAYED, VISITS, Ask, Outcome, Visit, official_client, recorded
from shim.doctor.request_fields import examine_fields, ignored_problem
from shim.errors import ServiceError, StreamError
from shim.repairs import Policy, Repair
from shim.reports import RepairEvent, RepairReport, capture_repairs
from shim.service.find import (
    ENDPOINT_VARIABLE,
    NOTHING_FOUND,
    known_addresses,
    normalised,
    split_credentials,
    without_credentials,
)
from shim.transport import RepairTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

_VISITS: Final[dict[str, Callable[[Visit], Outcome]]] = {**VISITS, "request fields": examine_fields}
PROBES: Final = (*REPLAYED, *_VISITS)
"""The names of the probes, in their order."""
DEADLINE: Final = 30.0
"""How long one probe may take, in seconds."""

_MOST_LATE: Final = 2
_LONGEST_SAMPLE: Final = 600


def diagnose(
    base_url: str | None = None,
    *,
    model: str | None = None,
    prompt: str | None = None,
    api_key: str | None = None,
    deadline: float = DEADLINE,
    progress: Callable[[str], None] | None = None,
) -> Diagnosis:
    """Examine a running service.

    It costs the service fewer than 200 tokens. Each of its steps ends by the deadline; after two probes in a row that
    exceed it, the others are skipped.

    Args:
        base_url: The address of the API; by default a running service is searched for, as by `FoundryLocal.attach`.
        model: The alias or id of the model to ask; by default the loaded one.
        prompt: The question that replaces the probes' own, such as the one with which a program fails.
        api_key: The key for the service. No key of the environment is sent.
        deadline: The limit for each probe, in seconds.
        progress: Called with the name of each probe before it starts.
    """
    diagnosis = Diagnosis()
    named = base_url or os.environ.get(ENDPOINT_VARIABLE)
    # An address may contain a name and password, which the diagnosis must not show.
    shown, authorization = split_credentials(named) if named else (None, None)
    if api_key is not None:
        authorization = f"Bearer {api_key}"
    found = _find(shown, authorization, deadline, diagnosis)
    if found is None:
        return diagnosis
    diagnosis.base_url, diagnosis.generation, diagnosis.detected_from = (
        found.base_url,
        found.generation,
        found.detected_from,
    )
    is_from_variable = not base_url and named is not None
    diagnosis.problems += [_name_variable(each) if is_from_variable else each for each in found.problems]
    if not diagnosis.is_usable:
        return diagnosis
    diagnosis.model, problem = choose_model(found, model)
    if problem is not None:
        diagnosis.problems.append(problem)
        return diagnosis
    with _Examiner(diagnosis, prompt, authorization, deadline) as examiner:
        for name in PROBES:
            if progress:
                progress(name)
            diagnosis.findings.append(examiner.run(name))
    return diagnosis


def diagnose_recording(recording: Recording) -> Diagnosis:
    """Examine the answer in a recording of a chat completion, as if the service sent it now.

    Raises:
        ServiceError: It is not a recording of a chat completion.
    """
    diagnosis = Diagnosis(base_url="", versions=dict(recording.details))
    body = load_object(recording.body)
    if body is None or not recording.target.partition("?")[0].endswith("/chat/completions"):
        raise ServiceError(
            f"The capture is of {recording.method} {recording.target}, and not of a chat completion.",
            remedy="Record one with: foundry-shim capture FILE",
        )
    model = body.get("model")
    diagnosis.model = model if isinstance(model, str) else ""
    probe = recorded(body)
    finding = Finding("recording")
    first = _listen(finding, ReplayTransport(recording), probe, diagnosis)
    _compare(finding, recording, first, probe, diagnosis)
    finding.timing = Timing.of([piece.at for piece in recording.pieces if b'"content"' in piece.data])
    diagnosis.findings.append(finding)
    return diagnosis


def _find(named: str | None, authorization: str | None, deadline: float, diagnosis: Diagnosis) -> Identity | None:
    """The service at the given address, or at the first known address that has one."""
    found: Identity | None = None
    ignored: list[str] = []
    for _, address in [("", named)] if named else known_addresses(ignored):
        try:
            url = without_credentials(normalised(address))
            with RecordingTransport(verify=url.startswith("https")) as transport:
                found = identify(transport, url, deadline, authorization)
        except (ValueError, httpx.InvalidURL) as error:
            diagnosis.base_url = without_credentials(address)
            # The reason may quote a part of the address, and so of a password in it.
            reason = "" if "@" in address else f": {error}"
            message = f"{diagnosis.base_url} is not a valid address{reason}."
            diagnosis.problems.append(Problem("bad-address", message, "Use one such as http://localhost:5273."))
            return None
        if not any(problem.is_fatal for problem in found.problems):
            return found
    if found is None:
        diagnosis.problems.append(
            Problem(
                "no-service",
                f"No Foundry Local service was found: {'; '.join([NOTHING_FOUND, *ignored])}.",
                f"Start it, or name its address with --base-url or in the variable {ENDPOINT_VARIABLE}.",
            )
        )
    return found


def _name_variable(problem: Problem) -> Problem:
    """A problem with an address that the variable holds."""
    if not problem.is_fatal:
        return problem
    return replace(problem, message=f"{problem.message} {ENDPOINT_VARIABLE} names this address.")


class _Examiner:
    """Runs the probes on one service, one after the other."""

    def __init__(self, diagnosis: Diagnosis, prompt: str | None, authorization: str | None, deadline: float) -> None:
        self._diagnosis = diagnosis
        self._prompt = prompt
        self._authorization = authorization
        self._deadline = deadline
        self._late = 0
        self._skip_reason = ""
        self._transport = RecordingTransport(verify=diagnosis.base_url.startswith("https"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._transport.close()

    def run(self, name: str) -> Finding:
        """Run a probe, unless those before it have shown that it is useless."""
        finding = Finding(name, skipped=self._skip_reason)
        if self._skip_reason:
            return finding
        self._transport.recordings.clear()
        self._transport.deadline = time.monotonic() + self._deadline
        if name in REPLAYED:
            probe = self._with_prompt(REPLAYED[name])
            first = _listen(finding, self._transport, probe, self._diagnosis, self._authorization)
            if self._transport.recordings:
                _compare(finding, self._transport.recordings[0], first, probe, self._diagnosis)
        else:
            visit = _VISITS[name]
            _listen(finding, self._transport, lambda ask: visit(self._visit(ask)), self._diagnosis, self._authorization)
            finding.deviations.clear()  # the other probes have counted them
        self._decide_on_others(finding)
        return finding

    def _with_prompt(self, probe: Callable[[Ask], Outcome]) -> Callable[[Ask], Outcome]:
        return lambda ask: probe(ask._replace(prompt=self._prompt))

    def _visit(self, ask: Ask) -> Visit:
        root = httpx.URL(self._diagnosis.base_url).copy_with(path="/models/loaded")
        headers = {} if self._authorization is None else {"Authorization": self._authorization}
        http = httpx.Client(transport=self._transport, timeout=self._deadline, headers=headers)
        return Visit(ask._replace(prompt=self._prompt), lambda: self._transport.connections, lambda: http.get(root))

    def _decide_on_others(self, finding: Finding) -> None:
        codes = {problem.code for problem in finding.problems}
        self._late = self._late + 1 if "deadline" in codes else 0
        if self._late == _MOST_LATE:
            self._skip_reason = f"{_MOST_LATE} probes in a row were not answered within {self._deadline:.0f} s"
        elif "service-gone" in codes:
            self._skip_reason = "the service has stopped"


def _listen(
    finding: Finding,
    transport: httpx.BaseTransport,
    probe: Callable[[Ask], Outcome],
    diagnosis: Diagnosis,
    authorization: str | None = None,
) -> dict[str, int]:
    """Run a probe with the shim, and record what was repaired; return the first event of each repair."""
    first: dict[str, int] = {}
    ignored: set[str] = set()

    def note(event: RepairEvent) -> None:
        first.setdefault(event.repair, event.event)
        if event.repair == Repair.REQUEST_IGNORED:
            ignored.update(event.found.split(", "))

    started = time.monotonic()
    with capture_repairs() as captured:
        outcome = probe(_ask(RepairTransport(transport, Policy(on_repair=note)), diagnosis, authorization))
    finding.seconds = round(time.monotonic() - started, 3)
    finding.with_shim, finding.problems, finding.timing = outcome.summary, outcome.problems, outcome.timing
    finding.fields = outcome.fields
    if ignored and not outcome.fields:
        finding.problems.append(ignored_problem(ignored))
    # What the service ignored is reported, not repaired.
    repairs = {code: count for code, count in captured.repairs.items() if code != Repair.REQUEST_IGNORED}
    finding.deviations = [Deviation.of(code, count) for code, count in sorted(repairs.items())]
    generations = (report.generation for report in captured.reports)
    diagnosis.generation = diagnosis.generation or next(filter(None, generations), None)
    return first


def _compare(
    finding: Finding,
    recording: Recording,
    first: dict[str, int],
    probe: Callable[[Ask], Outcome],
    diagnosis: Diagnosis,
) -> None:
    """Record what was received over the connection, and what a program without the shim sees of it."""
    redacted = redact(recording)
    finding.received, events = _received(redacted)
    finding.without_shim = probe(_ask(ReplayTransport(recording), diagnosis)).summary
    finding.without_shim_redacted = probe(_ask(ReplayTransport(redacted), diagnosis)).summary
    finding.deviations = [replace(each, sample=_sample(events, first.get(each.code, 0))) for each in finding.deviations]


def _ask(transport: httpx.BaseTransport, diagnosis: Diagnosis, authorization: str | None = None) -> Ask:
    """A client on a transport, with the model of the diagnosis."""
    base_url = diagnosis.base_url or "http://recorded/v1"
    return Ask(official_client(transport, base_url, authorization), diagnosis.model)


def _received(recording: Recording) -> tuple[str, list[bytes]]:
    """What was received over the connection, in a few words, and the payloads of its events."""
    parts: list[str] = []
    body: list[bytes] = []
    end = ""
    with httpx.Client(transport=ReplayTransport(recording), timeout=None) as http:  # noqa: S113 - a replay does not wait
        try:
            with http.stream("POST", "http://recorded/") as response:
                kind = response.headers.get("content-type", "no content type").split(";")[0].split(",")[0]
                parts.append(f"{response.status_code} {kind}")
                body.extend(response.iter_bytes())
        except httpx.TimeoutException:
            end = "silence"
        except httpx.HTTPError:
            end = "connection cut"
    frames = [frame for frame in _frames(b"".join(body)) if frame.data is not None]
    events = [frame.data or b"" for frame in frames if frame.data != DONE]
    if frames and not all(frame.bare for frame in frames):
        parts.append(f"{len(events)} event{'s' * (len(events) != 1)}")
        parts += ["[DONE]"] * (len(events) < len(frames))
    elif parts and not any(body):
        parts.append("no body")
    return ", ".join([*parts, end] if end else parts), events


def _frames(body: bytes) -> Iterator[Frame]:
    framer = Framer(RepairReport())
    with suppress(StreamError):  # an event exceeds the limit
        yield from framer.feed(body)
        yield from framer.finish()


def _sample(events: list[bytes], number: int) -> str:
    """An event as text, shortened to a readable length; empty if the number names none."""
    if not 0 < number <= len(events):
        return ""
    text = events[number - 1].decode("utf-8", "replace")
    return text if len(text) <= _LONGEST_SAMPLE else text[: _LONGEST_SAMPLE - 1] + "…"
