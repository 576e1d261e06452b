"""Each attack of ``tests/checks/attacks`` on one proxy: none may succeed."""

import sys

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("typer")

from checks.attacks.__main__ import main, play
from checks.attacks.attacks import ATTACKS, Entry
from checks.attacks.target import own_target

pytestmark = [
    pytest.mark.extended,
    pytest.mark.skipif(sys.platform == "win32", reason="FIFOs, links and owners are those of POSIX"),
]


@pytest.fixture(scope="module")
def target():
    """One proxy for all of them: none may spoil it for the next."""
    with own_target() as started:
        yield started


# They start the command again and again, or wait for a limit of ten seconds.
SLOW = ("local", "load-A_client_that_sends_its_body", "load-A_body_of_one-byte", "load-Names_of_models")


def cases():
    """The attacks; the slow ones run with the longer tests only."""
    for entry in ATTACKS:
        yield pytest.param(entry, id=str(entry), marks=pytest.mark.extended if str(entry).startswith(SLOW) else ())


@pytest.mark.parametrize("entry", [*cases()])
def test_attack_does_not_succeed(target, entry):
    """See the attack's own docstring."""
    success = entry.play(target)
    assert not success, success


@pytest.mark.parametrize(
    ("answer", "outcome"), [("", "held"), ("the door is open", "SUCCEEDED"), (OSError("cut"), "SUCCEEDED")]
)
def test_attack_that_succeeds_is_reported(target, answer, outcome):
    """What an attack reports or raises is its success."""

    def attack(_):
        if isinstance(answer, OSError):
            raise answer
        return answer

    row = play(Entry("access", "A test", attack, needs_own=False), target)
    assert row[2] == outcome
    assert str(answer) in row[-1]


def test_running_proxy_is_attacked_by_its_address(target, capsys):
    """Only what needs no service of ours is played; the exit code says whether something succeeded."""
    url = f"http://{target.host}:{target.port}"
    assert main(["--url", url, "--key", target.key, "--only", "access"]) == 0
    table = capsys.readouterr().out
    assert "A request under another host's name is answered" in table
    assert "A request without the key is answered" not in table
    assert main(["--url", url, "--only", "sent_without_waiting"]) == 0
