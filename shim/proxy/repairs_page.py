"""The repairs as a document: each under its code, so that the page can link to it."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Final

from shim.repairs import RULES

if TYPE_CHECKING:
    from shim.repairs import Repair, Rule

_HEAD: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>The repairs of foundry-shim</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body class="document">
<header class="bar">
  <h1><a href="./">foundry-shim</a></h1>
  <p>What is repaired, and why</p>
</header>
<main>
<p class="lead">A repair is made where its defect is seen, whatever release sends it. Each can be switched off by its
code. “Precaution” means that no Foundry Local was seen to do it.</p>
"""
_ADDRESS: Final = re.compile(r"https://github\.com/([\w-]+/[\w-]+)/issues/([0-9]+)")


def repairs_page(style: str) -> str:
    """The document.

    Args:
        style: The style sheet of the page.
    """
    sections = "".join(_section(code, rule) for code, rule in RULES.items())
    return f"{_HEAD.replace('{style}', style)}{sections}</main>\n</body>\n</html>\n"


def _section(code: Repair, rule: Rule) -> str:
    return (
        f'<section id="{code.value}" class="repair">\n'
        f'<h2><a class="code" href="#{code.value}">{code.value}</a></h2>\n'
        f"<dl><dt>Defect</dt><dd>{_text(rule.when)}</dd>"
        f"<dt>Repair</dt><dd>{_text(rule.action)}</dd>"
        f"<dt>Seen</dt><dd>{_text(rule.evidence)}</dd></dl>\n"
        "</section>\n"
    )


def _text(words: str) -> str:
    """The words as HTML: code between backquotes, and public reports as links."""
    linked = _ADDRESS.sub(r'<a href="\g<0>" rel="noreferrer">\1#\2</a>', escape(words))
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", linked)
