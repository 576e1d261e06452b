"""The result of the doctor as data; each problem has a stable code, a message and a remedy."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Literal

from shim.origin import version_of
from shim.repairs import RULES, Repair

if TYPE_CHECKING:
    from collections.abc import Sequence

Verdict = Literal["ok", "repaired", "note", "failed", "skipped"]

_PACKAGES: Final = ("foundry-local-shim", "openai", "httpx", "httpx2", "foundry-local-sdk")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that the shim does not repair.

    Attributes:
        code: A stable, lower-case word; match on it.
        message: What happened, to what.
        remedy: What to do about it.
        is_fatal: Whether programs fail because of it; otherwise it is only good to know.
    """

    code: str
    message: str
    remedy: str
    is_fatal: bool = True


@dataclass(frozen=True, slots=True)
class Deviation:
    """A deviation of a service from the OpenAI API that the shim repairs.

    Attributes:
        code: The code of the repair.
        count: How often it was made.
        when: The defect.
        evidence: Where else it was seen.
        sample: The first event with it, without private text; empty if it does not concern one event.
    """

    code: str
    count: int
    when: str
    evidence: str
    sample: str = ""

    @classmethod
    def of(cls, code: Repair, count: int) -> Deviation:
        """The deviation that causes a repair that was made so often."""
        return cls(code.value, count, RULES[code].when, RULES[code].evidence)


@dataclass(frozen=True, slots=True)
class Timing:
    """When the text of a stream was received.

    Attributes:
        first: Seconds from the request to the first text.
        gaps: Seconds between each text and the next.
    """

    first: float
    gaps: list[float]

    @classmethod
    def of(cls, moments: Sequence[float], *, started: float = 0.0) -> Timing | None:
        """The timing of a stream whose text was received at these moments; None if there was none."""
        if not moments:
            return None
        return cls(moments[0] - started, [later - earlier for earlier, later in pairwise(moments)])


@dataclass(slots=True)
class Finding:
    """The result of one probe.

    Attributes:
        probe: Its name.
        received: The answer as received over the connection.
        without_shim: What a program sees with the official client and without the shim, by a replay of the same
            answer; empty if it was not replayed.
        without_shim_redacted: The same, from the redacted answer; may be published.
        with_shim: What the program sees with the shim.
        deviations: What the shim repaired.
        problems: What it did not repair.
        fields: For the probe of request fields: "honoured", "ignored", "refused" or "unknown" for each.
        seconds: The duration of the probe.
        skipped: Why the probe was not made; empty if it was.
        timing: For a stream with text.
    """

    probe: str
    received: str = ""
    without_shim: str = ""
    without_shim_redacted: str = ""
    with_shim: str = ""
    deviations: list[Deviation] = field(default_factory=list[Deviation])
    problems: list[Problem] = field(default_factory=list[Problem])
    fields: dict[str, str] = field(default_factory=dict[str, str])
    seconds: float = 0.0
    skipped: str = ""
    timing: Timing | None = None

    @property
    def verdict(self) -> Verdict:
        """The result in one word."""
        if self.skipped:
            return "skipped"
        if any(problem.is_fatal for problem in self.problems):
            return "failed"
        if self.deviations:
            return "repaired"
        return "note" if self.problems else "ok"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    return found | {package: number for package in _PACKAGES if (number := version_of(package))}


@dataclass(slots=True)
class Diagnosis:
    """The result of all probes.

    Attributes:
        base_url: Where the API is.
        generation: Which releases of Foundry Local it may be; None if it is another service, or unknown.
        detected_from: What the generation was detected from.
        model: The model that was asked.
        findings: The result of each probe, in order.
        problems: Problems that do not belong to one probe.
        versions: The versions of Python, the platform and the packages in use.
    """

    base_url: str = ""
    generation: str | None = None
    detected_from: str = ""
    model: str = ""
    findings: list[Finding] = field(default_factory=list[Finding])
    problems: list[Problem] = field(default_factory=list[Problem])
    versions: dict[str, str] = field(default_factory=_versions)

    @property
    def all_problems(self) -> list[Problem]:
        """The problems of the probes as well; each code once."""
        every = [*self.problems, *(problem for finding in self.findings for problem in finding.problems)]
        return list({problem.code: problem for problem in reversed(every)}.values())[::-1]

    @property
    def deviations(self) -> dict[str, Deviation]:
        """What the shim repaired in any probe, by code, with the counts added."""
        found: dict[str, Deviation] = {}
        for deviation in (deviation for finding in self.findings for deviation in finding.deviations):
            known = found.get(deviation.code)
            count = deviation.count + (known.count if known else 0)
            sample = (known.sample if known else "") or deviation.sample
            found[deviation.code] = Deviation(deviation.code, count, deviation.when, deviation.evidence, sample)
        return dict(sorted(found.items()))

    @property
    def is_usable(self) -> bool:
        """Whether a program with the shim gets right answers, as far as the probes show."""
        return not any(problem.is_fatal for problem in self.all_problems)

    def as_data(self) -> dict[str, Any]:
        """The same as JSON-compatible data."""
        data = asdict(self)
        for finding, written in zip(self.findings, data["findings"], strict=True):
            written["verdict"] = finding.verdict
        return {**data, "is_usable": self.is_usable}


def as_markdown(diagnosis: Diagnosis) -> str:
    """A report to paste into an issue: release, platform, deviations with samples; no private text."""
    generation = diagnosis.generation or "unknown"
    lines = [
        f"### Foundry Local {generation}: deviations from OpenAI's chat completions API",
        "",
        f"- Foundry Local: {generation}" + (f" ({diagnosis.detected_from})" if diagnosis.detected_from else ""),
        f"- Model: `{diagnosis.model or 'none'}`",
        *(f"- {name}: {number}" for name, number in diagnosis.versions.items()),
        "",
        "| probe | received | with the official client, without the shim |",
        "| --- | --- | --- |",
    ]
    lines += [
        f"| {each.probe} | {_cell(each.received)} | {_cell(each.without_shim_redacted)} |" for each in _made(diagnosis)
    ]
    if diagnosis.deviations:
        lines += ["", "#### Deviations from the OpenAI API", ""]
        lines += ["| code | times | deviation | evidence |", "| --- | --- | --- | --- |"]
    samples: dict[str, list[str]] = {}
    for each in diagnosis.deviations.values():
        lines.append(f"| {each.code} | {each.count} | {_cell(each.when)} | {_cell(each.evidence)} |")
        if each.sample:
            samples.setdefault(each.sample, []).append(each.code)
    for sample, codes in samples.items():
        # Letters of prompt and answer are masked with x. A fence inside the sample would end the block.
        lines += ["", f"An event with {', '.join(codes)}:", "", "```", sample.replace("```", "'''"), "```"]
    if diagnosis.all_problems:
        lines += ["", "#### Other problems", ""]
    lines += [f"- `{problem.code}`: {problem.message}" for problem in diagnosis.all_problems]
    return "\n".join(["", *lines, ""]).lstrip("\n")


def _made(diagnosis: Diagnosis) -> list[Finding]:
    return [finding for finding in diagnosis.findings if not finding.skipped]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split()) or "-"
