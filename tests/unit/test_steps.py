"""Steps of a long start: lines in a log, a spinner on a terminal."""

import io
import threading
import time

import pytest

from shim.offline.steps import Steps


class Screen(io.StringIO):
    """A terminal that keeps what it gets, and can be waited for."""

    encoding = "utf-8"

    def __init__(self):
        """Start empty."""
        super().__init__()
        self.drawn = threading.Condition()

    def isatty(self):
        return True

    def write(self, text):
        with self.drawn:
            super().write(text)
            self.drawn.notify_all()

    def wait_for(self, text):
        with self.drawn:
            assert self.drawn.wait_for(lambda: text in self.getvalue(), 10)


class AsciiScreen(Screen):
    """A terminal that knows few characters."""

    encoding = "ascii"


def test_text_that_cannot_be_encoded_is_replaced_by_what_can():
    """An ellipsis by three full stops, not by a question mark."""
    log = io.TextIOWrapper(io.BytesIO(), "ascii", write_through=True)
    with Steps(log) as steps:
        steps("Waiting …")
    assert log.buffer.getvalue() == b"Waiting ...\n"


@pytest.fixture(autouse=True)
def _terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")


def test_log_gets_a_line_for_each_step():
    """And one for each tenth of a download, whatever the steps in between."""
    log = io.StringIO()
    with Steps(log) as steps:
        steps("Fetching …")
        for percent in (0.0, 4.0, 9.9, 10.0, 55.0, 59.0, 100.0, 100.0):
            steps.show_percent(percent)
        steps("Building …")
        steps.show_percent(3.0)
        steps("Ready.")
    assert log.getvalue() == "Fetching …\n   0 %\n  10 %\n  50 %\n 100 %\nBuilding …\n   0 %\nReady.\n"


def test_terminal_gets_a_spinner_that_is_erased():
    """A short step leaves nothing on the terminal."""
    screen = Screen()
    with Steps(screen) as steps:
        steps("Fetching …")
        screen.wait_for("⠋ 0 s Fetching …")
        screen.wait_for("⠙ 0 s Fetching …")
    assert screen.getvalue().endswith("\r\x1b[K")
    assert "\n" not in screen.getvalue()


def test_long_step_stays_with_its_seconds(monkeypatch):
    """So a person sees afterwards what took so long."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    screen = Screen()
    with Steps(screen) as steps:
        steps("Fetching …")
        now[0] = 12.2
    assert screen.getvalue().endswith("\r\x1b[KFetching … 12 s\n")


def test_terminal_gets_a_bar():
    """Where the part is known that is done."""
    screen = Screen()
    with Steps(screen) as steps:
        steps("Fetching …")
        steps.show_percent(50.0)
        screen.wait_for(" [########        ]  50 % Fetching …")


def test_line_is_cut_at_the_edge():
    """A longer one would break, and could not be erased."""
    screen = Screen()
    with Steps(screen) as steps:
        steps("x" * 100 + " …")
        screen.wait_for("⠋")
    drawn = screen.getvalue().split("\r\x1b[K")[1]
    assert len(drawn) == 59


def test_statement_is_a_line():
    """It does not end with an ellipsis, and stays."""
    screen = Screen()
    with Steps(screen) as steps:
        steps("Using the offline model.")
    assert screen.getvalue() == "Using the offline model.\n"


def test_plain_characters_where_there_are_no_others():
    """On a terminal that cannot show them."""
    screen = AsciiScreen()
    with Steps(screen) as steps:
        steps("Fetching …")
        screen.wait_for("- 0 s Fetching ...")
    assert screen.getvalue().isascii()


def test_dumb_terminal_gets_lines(monkeypatch):
    """It cannot erase any."""
    monkeypatch.setenv("TERM", "dumb")
    screen = Screen()
    with Steps(screen) as steps:
        steps("Fetching …")
    assert screen.getvalue() == "Fetching …\n"


def test_nothing_is_drawn_after_the_end():
    """The answer is written to the same terminal."""
    screen = Screen()
    steps = Steps(screen)
    steps("Waiting …")
    screen.wait_for("⠋")
    steps.end()
    assert screen.getvalue().endswith("\r\x1b[K")
    assert "shim-steps" not in {thread.name for thread in threading.enumerate()}
