"""Finds out what is wrong with a service, and whether the shim mends it."""

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
