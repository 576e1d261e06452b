"""Prints the licences of all packages that are installed with the project, as a Markdown table.

Run ``python tests/checks/distribution/licences.py`` where the project is installed with the extras in question.
"""

import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from support.tables import as_markdown

PROJECT = "foundry-local-shim"
EXTRAS = ("", "service", "offline", "cli", "proxy")


def needed(name: str, extras: set[str], found: dict[str, Distribution]) -> dict[str, Distribution]:
    """Return what a package needs here, with these extras, and what that needs; ``found`` is known already."""
    for line in distribution(name).requires or []:
        requirement = Requirement(line)
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in extras or {""}):
            continue
        key = canonicalize_name(requirement.name)
        if key == PROJECT:
            needed(PROJECT, requirement.extras, found)
        elif key not in found:
            try:
                found[key] = distribution(key)
            except PackageNotFoundError:
                continue
            needed(key, requirement.extras, found)
    return found


def licence(package: Distribution) -> str:
    """Return the licence as the package tells it: the expression, else the classifiers, else the first line of text."""
    told = package.metadata
    if expression := told.get("License-Expression"):
        return expression
    names = [each.rpartition(" :: ")[2] for each in told.get_all("Classifier") or [] if each.startswith("License :: ")]
    text = (told.get("License") or "not stated").strip().splitlines()[0]
    return ", ".join(name for name in names if name != "OSI Approved") or text


def table() -> str:
    """Return the table: each package under the first extra that brings it."""
    rows: list[list[str]] = []
    seen: set[str] = set()
    for extra in EXTRAS:
        packages = needed(PROJECT, {extra}, {})
        rows += [
            [package.name, extra or "always", package.version, licence(package)]
            for key, package in sorted(packages.items())
            if key not in seen
        ]
        seen |= set(packages)
    return as_markdown(("package", "comes with", "version tested", "licence"), rows)


if __name__ == "__main__":
    print(table())
