"""A headless Chromium, driven over the DevTools protocol through a pipe: neither a driver nor a package is needed."""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SECONDS = 60.0
_POLL_SECONDS = 0.02
_ALT, _CTRL, _META, _SHIFT = 1, 2, 4, 8
MODIFIERS = {"Alt": _ALT, "Control": _CTRL, "Meta": _META, "Shift": _SHIFT}
_CODES = {"Tab": 9, "Enter": 13, "Escape": 27, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39}
# The browser reads commands at its descriptor 3 and writes at 4. A program of its own moves them there: what Python
# would run between fork and exec is not safe beside threads.
_MOVE = """
import os, sys
read, write = (os.dup(os.dup(os.dup(int(number)))) for number in sys.argv[1:3])
os.dup2(read, 3), os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class BrowserError(Exception):
    """The browser refused a command, or what was waited for did not happen."""


def find_browser() -> str | None:
    """Return the path of a Chromium, if there is one."""
    if os.name == "nt":  # the pipe is another thing there
        return None
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """A browser with a profile of its own, as a context manager; each page is a `Page`."""

    def __init__(self, path: str) -> None:
        """Prepare; nothing runs before the ``with`` block."""
        self._path = path
        self._answers: dict[int, Any] = {}
        self._listeners: dict[str, Callable[[str, Any], None]] = {}
        self._changed = threading.Condition()
        self._number = 0
        self._ended = False

    def __enter__(self) -> Self:
        """Start it."""
        self._profile = tempfile.mkdtemp(prefix="foundry-shim-browser-")
        their_input, self._output = os.pipe()
        self._input, their_output = os.pipe()
        options = [
            *("--headless=new", "--remote-debugging-pipe", f"--user-data-dir={self._profile}", "--no-first-run"),
            *("--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-extensions"),
            *("--disable-component-update", "--disable-sync", "--no-default-browser-check", "--mute-audio"),
            # Its own sandbox does not work for root, as whom containers run; only pages of the tests are opened.
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _MOVE, str(their_input), str(their_output), self._path, *options, "about:blank"],
            pass_fds=(their_input, their_output),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(their_input)
        os.close(their_output)
        self._reader = threading.Thread(target=self._read, name="browser", daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, and remove its profile."""
        with suppress(BrowserError):
            self.command("Browser.close")
        try:
            self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(SECONDS)
        os.close(self._output)
        os.close(self._input)
        shutil.rmtree(self._profile, ignore_errors=True)

    def page(self, url: str, *, width: int = 1280, height: int = 900, **media: str) -> "Page":
        """Open a page in a context of its own; media features by name, such as ``prefers_color_scheme="dark"``."""
        context = self.command("Target.createBrowserContext")["browserContextId"]
        target = self.command("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, context, session)
        self._listeners[session] = page.note
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.command(f"{domain}.enable")
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        page.command("Emulation.setEmulatedMedia", features=features)
        page.command("Emulation.setFocusEmulationEnabled", enabled=True)
        page.resize(width, height)
        page.command("Page.navigate", url=url)
        page.wait("document.readyState === 'complete' && location.href !== 'about:blank'")
        return page

    def command(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """Do something, and return its result."""
        with self._changed:
            self._number += 1
            number = self._number
            message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
            if session:
                message["sessionId"] = session
            try:
                _write(self._output, json.dumps(message).encode() + b"\0")
            except OSError as error:
                raise BrowserError(f"{method}: the browser has ended") from error
            if not self._changed.wait_for(lambda: number in self._answers or self._ended, SECONDS):
                raise BrowserError(f"{method}: no answer")
            answer = self._answers.pop(number, {"error": {"message": "the browser has ended"}})
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def forget(self, session: str) -> None:
        """Stop noting what happens in a page."""
        self._listeners.pop(session, None)

    def _read(self) -> None:
        received = b""
        while data := os.read(self._input, 1 << 16):
            *messages, received = (received + data).split(b"\0")
            for message in map(json.loads, messages):
                with self._changed:
                    if "id" in message:
                        self._answers[message["id"]] = message
                    elif listener := self._listeners.get(message.get("sessionId", "")):
                        listener(message["method"], message["params"])
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class Page:
    """One page.

    Attributes:
        requests: The addresses of all that it asked for.
        complaints: What the browser or the page wrote to the console, and exceptions that nobody caught.
    """

    def __init__(self, browser: Browser, context: str, session: str) -> None:
        """Take over a page that is open."""
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._browser = browser
        self._context = context
        self._session = session

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it, with its context."""
        self._browser.forget(self._session)
        self._browser.command("Target.disposeBrowserContext", browserContextId=self._context)

    def note(self, method: str, parameters: Any) -> None:
        """Take an event of the browser."""
        match method:
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(parameters["exceptionDetails"]))
            case "Log.entryAdded":
                self.complaints.append(parameters["entry"]["text"])
            case "Runtime.consoleAPICalled":
                self.complaints.append(json.dumps(parameters["args"]))

    def command(self, method: str, **parameters: Any) -> Any:
        """Do something with the page."""
        return self._browser.command(method, self._session, **parameters)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript."""
        told = self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in told:
            raise BrowserError(json.dumps(told["exceptionDetails"]))
        return told["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + SECONDS
        while not self.evaluate(f"Boolean({expression})"):
            if time.monotonic() > deadline:
                seen = self.evaluate("document.body.innerText")
                raise BrowserError(f"waited in vain for {expression}; the page says:\n{seen}\n{self.complaints}")
            time.sleep(_POLL_SECONDS)

    def text(self, selector: str) -> str:
        """Return the text of the first element that a selector finds."""
        return self.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all elements that a selector finds."""
        return self.evaluate(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.textContent)")

    def type(self, text: str) -> None:
        """Write at the keyboard, wherever the focus is."""
        self.command("Input.insertText", text=text)

    def press(self, keys: str) -> None:
        """Press a key at the keyboard, such as ``Tab`` or ``Control+Enter``."""
        *held, key = keys.split("+")
        code, text = _CODES[key], "\r" if key == "Enter" else ""
        stroke = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": sum(map(MODIFIERS.get, held))}
        typed = {"text": text} if text and not {"Control", "Meta"} & set(held) else {}
        self.command("Input.dispatchKeyEvent", type="keyDown" if typed else "rawKeyDown", **stroke, **typed)
        self.command("Input.dispatchKeyEvent", type="keyUp", **stroke)

    def resize(self, width: int, height: int) -> None:
        """Make the window as large as that."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def allow(self, *permissions: str) -> None:
        """Give the page permissions that it would have to ask its user for."""
        self._browser.command("Browser.grantPermissions", permissions=permissions, browserContextId=self._context)

    def screenshot(self, file: Path) -> None:
        """Write a picture of the whole page."""
        told = self.command("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(told["data"]))


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
