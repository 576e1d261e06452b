"""The documents that a browser gets: the page and the list of repairs."""

import base64
import hashlib
import html
import json
import re

import httpx
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from shim.repairs import RULES


def test_headers_allow_only_the_pages_own_code(address):
    """Nothing but the page's own style and script is allowed, by their hashes, and nobody may frame it."""
    answer = httpx.get(address, trust_env=False)
    directives = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert directives["default-src"] == directives["frame-ancestors"] == "'none'"
    assert directives["base-uri"] == directives["form-action"] == "'none'"
    assert directives["connect-src"] == "'self'"
    assert directives["img-src"] == "data:"
    assert {name for name in directives if name.endswith("-src")} == {
        *("default-src", "connect-src", "img-src", "script-src", "style-src")
    }
    for name in ("script", "style"):
        (inline,) = re.findall(f"<{name}>(.*?)</{name}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert directives[f"{name}-src"] == f"'sha256-{digest}'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_page_knows_every_repair(address):
    """The page knows the words of every repair, and no word of a rule can end the element that they stand in."""
    (words,) = re.findall(r'id="rules">(.*?)</script>', httpx.get(address, trust_env=False).text, re.DOTALL)
    assert "<" not in words
    assert {code: rule["when"] for code, rule in json.loads(words).items()} == {
        code.value: rule.when for code, rule in RULES.items()
    }


def test_every_repair_has_its_place_in_the_list(address):
    """Under its code, with its words as text, and with the public reports as links."""
    answer = httpx.get(address + "repairs", trust_env=False)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    sections = dict(re.findall(r'<section id="([^"]+)"[^>]*>(.*?)</section>', answer.text, re.DOTALL))
    assert list(sections) == [code.value for code in RULES]
    for code, rule in RULES.items():
        text = html.unescape(re.sub(r"<[^>]+>", "", sections[code.value]))
        assert rule.when.replace("`", "") in text
        assert rule.action.replace("`", "") in text
    assert 'href="https://github.com/microsoft/foundry-local/issues/263"' in sections["choice-index"]


def test_list_of_repairs_runs_no_script_and_loads_nothing(address, open_document):
    """It is a document: the browser may not run anything in it, and its style is its own."""
    policy = httpx.get(address + "repairs", trust_env=False).headers["content-security-policy"]
    assert "script-src 'none'" in policy
    assert "default-src 'none'" in policy
    page = open_document(address + "repairs#usage")
    assert not page.complaints
    assert {url for url in page.requests if not url.startswith("data:")} == {address + "repairs"}
    assert page.evaluate("document.querySelector(':target').id") == "usage"
    assert page.evaluate("getComputedStyle(document.querySelector(':target')).borderLeftStyle") == "solid"


@pytest.mark.parametrize("width", [360, 1280])
def test_list_of_repairs_fits(address, open_document, width):
    page = open_document(address + "repairs", width=width)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
