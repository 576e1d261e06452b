"""Asks of metadata what an index asks when a file is uploaded; run with the interpreter of the environment with tools.

Prints a line for each fault.
"""

import sys
from pathlib import Path

from packaging.metadata import InvalidMetadata, Metadata
from readme_renderer.markdown import render
from trove_classifiers import classifiers, deprecated_classifiers


def faults(text: bytes) -> list[str]:
    """Return what is wrong with the content of METADATA or PKG-INFO."""
    try:
        metadata = Metadata.from_email(text, validate=True)
    except ExceptionGroup as group:
        return [str(error) for error in group.exceptions if isinstance(error, InvalidMetadata)] or [str(group)]
    found = [
        f"no such classifier: {each}"
        for each in metadata.classifiers or []
        if each not in classifiers or each in deprecated_classifiers
    ]
    page = render(metadata.description or "")
    if page is None or page.count("<table") != (metadata.description or "").count("\n| --- |") + (
        metadata.description or ""
    ).count("\n|---|"):
        found.append("the readme does not become a page with all of its tables")
    return found


if __name__ == "__main__":
    for fault in faults(Path(sys.argv[1]).read_bytes()):
        print(fault)
