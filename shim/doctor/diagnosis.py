"""What the doctor has found, as data; each problem with a stable code, a message and a remedy."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Literal

from shim.repairs import RULES, Repair

if TYPE_CHECKING:
    from collections.abc import Sequence

Verdict = Literal["ok", "mended", "note", "wrong", "skipped"]

_PACKAGES: Final = ("foundry-local-shim", "openai", "httpx", "httpx2", "foundry-local-sdk")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that the shim does not mend.

    Attributes:
        code: A stable, lower-case word; match on this one.
        message: What happened, to what.
        remedy: What to do about it.
        is_grave: Whether a program fails by it; otherwise it is only good to know.
    """

    code: str
    message: str
    remedy: str
    is_grave: bool = True


@dataclass(frozen=True, slots=True)
class Deviation:
    """Something that a service sends otherwise than OpenAI, and that the shim mends.

    Attributes:
        code: The code of the repair.
        count: How often it was made.
        when: The defect.
        evidence: Where else it was seen.
        sample: The event in which it came first, without private text; empty where it is not about one event.
    """

    code: str
    count: int
    when: str
    evidence: str
    sample: str = ""

    @classmethod
    def of(cls, code: Repair, count: int) -> Deviation:
        """What is known of a repair that was made so often."""
        return cls(code.value, count, RULES[code].when, RULES[code].evidence)


@dataclass(frozen=True, slots=True)
class Timing:
    """When the text of a stream came.

    Attributes:
        first: Seconds from the request to the first text.
        gaps: Seconds between each text and the next.
    """

    first: float
    gaps: list[float]

    @classmethod
    def of(cls, moments: Sequence[float], *, started: float = 0.0) -> Timing | None:
        """The timing of a stream whose text came at these moments; None where none came."""
        if not moments:
            return None
        return cls(moments[0] - started, [later - earlier for earlier, later in pairwise(moments)])


@dataclass(slots=True)
class Finding:
    """What one probe has found.

    Attributes:
        probe: Its name.
        came: The answer of the service, as it came over the connection.
        alone: What a program sees with the official client alone, by a replay of the same answer; empty where it was
            not replayed.
        alone_redacted: The same, from the redacted answer: this may be published.
        mended: What it sees with the shim.
        deviations: What the shim had to mend.
        problems: What it does not mend.
        seconds: How long the probe took.
        skipped: Why it was not made, if it was not.
        timing: For a stream with text.
    """

    probe: str
    came: str = ""
    alone: str = ""
    alone_redacted: str = ""
    mended: str = ""
    deviations: list[Deviation] = field(default_factory=list[Deviation])
    problems: list[Problem] = field(default_factory=list[Problem])
    seconds: float = 0.0
    skipped: str = ""
    timing: Timing | None = None

    @property
    def verdict(self) -> Verdict:
        """The finding in one word."""
        if self.skipped:
            return "skipped"
        if any(problem.is_grave for problem in self.problems):
            return "wrong"
        if self.deviations:
            return "mended"
        return "note" if self.problems else "ok"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@dataclass(slots=True)
class Diagnosis:
    """All that the doctor has found.

    Attributes:
        base_url: Where the API is.
        generation: Which releases of Foundry Local it may be; None where it is none, or does not tell.
        told_by: What tells so.
        model: The model that was asked.
        findings: What each probe has found, in order.
        problems: What does not belong to one probe.
        versions: Of Python, the platform and the packages in use.
    """

    base_url: str = ""
    generation: str | None = None
    told_by: str = ""
    model: str = ""
    findings: list[Finding] = field(default_factory=list[Finding])
    problems: list[Problem] = field(default_factory=list[Problem])
    versions: dict[str, str] = field(default_factory=_versions)

    @property
    def all_problems(self) -> list[Problem]:
        """Those of the probes, too; each code once."""
        every = [*self.problems, *(problem for finding in self.findings for problem in finding.problems)]
        return list({problem.code: problem for problem in reversed(every)}.values())[::-1]

    @property
    def deviations(self) -> dict[str, Deviation]:
        """What the shim had to mend in any probe, by code, with the counts added."""
        found: dict[str, Deviation] = {}
        for deviation in (deviation for finding in self.findings for deviation in finding.deviations):
            known = found.get(deviation.code)
            count = deviation.count + (known.count if known else 0)
            sample = (known.sample if known else "") or deviation.sample
            found[deviation.code] = Deviation(deviation.code, count, deviation.when, deviation.evidence, sample)
        return dict(sorted(found.items()))

    @property
    def is_usable(self) -> bool:
        """Whether a program with the shim gets right answers, as far as was tried."""
        return not any(problem.is_grave for problem in self.all_problems)

    def as_data(self) -> dict[str, Any]:
        """The same for a machine."""
        data = asdict(self)
        for finding, written in zip(self.findings, data["findings"], strict=True):
            written["verdict"] = finding.verdict
        return {**data, "is_usable": self.is_usable}


def as_markdown(diagnosis: Diagnosis) -> str:
    """A text to paste into an issue: release, platform, deviations with samples; no private text."""
    generation = diagnosis.generation or "unknown"
    lines = [
        f"### Foundry Local {generation}: deviations from OpenAI's chat completions API",
        "",
        f"- Foundry Local: {generation}" + (f" ({diagnosis.told_by})" if diagnosis.told_by else ""),
        f"- Model: `{diagnosis.model or 'none'}`",
        *(f"- {name}: {number}" for name, number in diagnosis.versions.items()),
        "",
        "| probe | what came | with the official client alone |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {each.probe} | {_cell(each.came)} | {_cell(each.alone_redacted)} |" for each in _made(diagnosis)]
    if diagnosis.deviations:
        lines += ["", "#### What is sent otherwise than OpenAI sends it", ""]
        lines += ["| code | times | what | also seen |", "| --- | --- | --- | --- |"]
    samples: dict[str, list[str]] = {}
    for each in diagnosis.deviations.values():
        lines.append(f"| {each.code} | {each.count} | {_cell(each.when)} | {_cell(each.evidence)} |")
        if each.sample:
            samples.setdefault(each.sample, []).append(each.code)
    for sample, codes in samples.items():
        # Letters of prompt and answer are an x here; a fence of the sample's own would end the block.
        lines += ["", f"An event with {', '.join(codes)}:", "", "```", sample.replace("```", "'''"), "```"]
    if diagnosis.all_problems:
        lines += ["", "#### What else is wrong", ""]
    lines += [f"- `{problem.code}`: {problem.message}" for problem in diagnosis.all_problems]
    return "\n".join(["", *lines, ""]).lstrip("\n")


def _made(diagnosis: Diagnosis) -> list[Finding]:
    return [finding for finding in diagnosis.findings if not finding.skipped]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split()) or "-"
