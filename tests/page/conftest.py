"""The proxy under a real uvicorn, a service of 1.x that sends when a test allows it, and a real browser."""

import json
import threading
from contextlib import ExitStack

import pytest

from support.browser import Browser, find_browser
from support.environments import required
from support.raw_server import RawServer, Send, chunk, last_chunk, plain_response, response_head
from support.streams import DONE, MODEL, betalgo, event

SECONDS = 20.0


class Upstream:
    """A service with one model, whose answer is sent event by event.

    Attributes:
        answer: The steps that answer a prompt, or a script of them, instead of the events.
        events: The events of the answer.
        models: The ids of its models.
        may_send: Released once for each event that may be sent, where `waits`.
        waits: Whether events wait for that.
    """

    def __init__(self):
        """Start with an answer that does not wait."""
        self.events = [*map(event, betalgo(["An old ", "silent ", "pond"])), DONE]
        self.answer = None
        self.models = [MODEL]
        self.waits = False
        self.may_send = threading.Semaphore(0)
        self.server = RawServer(self._serve)

    @property
    def prompts(self):
        """The requests for an answer."""
        return [request for request in self.server.requests if request.method == "POST"]

    def _serve(self, connection, request):
        if request.method == "GET":
            models = [{"id": model, "object": "model", "created": 1, "owned_by": "us"} for model in self.models]
            found = {"object": "list", "data": models} if request.path == "/v1/models" else self.models
            return plain_response(json.dumps(found).encode())
        if self.answer is None:
            return self._answer()
        return self.answer(connection, request) if callable(self.answer) else self.answer

    def _answer(self):
        yield Send(response_head())
        for data in self.events:
            if self.waits:
                assert self.may_send.acquire(timeout=SECONDS), "the test never allowed the next event"
            yield Send(chunk(data))
        yield Send(last_chunk())


@pytest.fixture
def upstream():
    """Give a service of 1.x."""
    made = Upstream()
    with made.server:
        yield made


@pytest.fixture
def serve():
    """Give a function that starts a proxy and returns its address."""
    from support.proxies import proxying  # noqa: PLC0415 - where its packages are missing, the tests skip themselves

    with ExitStack() as stack:
        yield lambda base_url, **settings: stack.enter_context(proxying(base_url, **settings)).url + "/"


@pytest.fixture
def address(upstream, serve):
    """Give the address of a proxy before the service."""
    return serve(upstream.server.base_url)


@pytest.fixture(scope="session")
def browser():
    """Give the browser of this machine."""
    path = find_browser()
    if path is None:
        if required("chromium"):
            pytest.fail("no Chromium on the PATH")
        pytest.skip("no Chromium on the PATH")
    with Browser(path) as started:
        yield started


@pytest.fixture
def open_document(browser):
    """Give a function that opens a document, and closes it with the test."""
    with ExitStack() as stack:
        yield lambda address, **how: stack.enter_context(browser.page(address, **how))


@pytest.fixture
def open_page(open_document):
    """Give a function that opens the page, with the models in it, and closes it with the test."""

    def opened(address, **how):
        page = open_document(address, **how)
        page.wait("document.getElementById('model').value || !document.getElementById('error-part').hidden")
        page.wait("document.activeElement.id")  # the prompt, or the key
        return page

    return opened
