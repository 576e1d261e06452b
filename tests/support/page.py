"""What the tests of the page share: how to ask the proxy as the page does, and how to use the page."""

import contextlib
import json
import socket

import httpx

from support.streams import MODEL

ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
ANSWER = "An old silent pond"
ANSWER_BOX = ".turn:last-child .answer"
IS_OVER = "!running && document.getElementById('state').textContent"
HAS_FAILED = "!running && !document.getElementById('error-part').hidden"


def nobody():
    """An address where nobody listens."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


def ask(address, asked=ASKED, **how):
    """All lines of an answer."""
    with httpx.stream("POST", address, json=asked, timeout=30, trust_env=False, **how) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/x-ndjson"
        return [json.loads(line) for line in response.iter_lines()]


def joined(lines, name):
    """The text of all lines of a kind."""
    return "".join(line[name] for line in lines if name in line)


def send(page, prompt="x", until=IS_OVER):
    """Send a prompt by keyboard, and wait for the end of its answer; the focus has to be in the prompt."""
    page.type(prompt)
    page.press("Control+Enter")
    page.wait(until)
    settle(page)


def settle(page):
    """Wait until everything that the page has to draw is drawn."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def click(page, identity):
    """Click what has this id."""
    page.evaluate(f"document.getElementById({json.dumps(identity)}).click()")
    settle(page)


def is_hidden(page, identity):
    """Whether the page hides what has this id."""
    return page.evaluate(f"document.getElementById({json.dumps(identity)}).hidden")
