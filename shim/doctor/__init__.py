"""Checks a service: which defects it has, and which of them the shim repairs."""

from shim.doctor.diagnosis import Deviation, Diagnosis, Finding, Problem, Timing, as_markdown
from shim.doctor.examination import diagnose, diagnose_recording

__all__ = [
    "Deviation",
    "Diagnosis",
    "Finding",
    "Problem",
    "Timing",
    "as_markdown",
    "diagnose",
    "diagnose_recording",
]
