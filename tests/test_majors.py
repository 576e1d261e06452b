"""Contract line 11: the same behaviour under openai 1.x, 2.x and 3.x, shown by the same tests.

Each major has an environment of its own. The tests that talk to clients run there as they run here, against the same
services: what this session started is handed over.
"""

import re
import subprocess
from pathlib import Path

import openai
import pytest

from support.clients import CLIENTS, client_environment
from support.environments import Unprovisioned, required
from support.releases import DEFAULT_VERSIONS
from support.service import LIVE_VARIABLE, live_setting

TESTS = Path(__file__).parent
HERE = f"openai-{openai.__version__.split('.')[0]}"
SECONDS = 900


@pytest.mark.parametrize("name", [name for name in CLIENTS if name != HERE])
def test_same_behaviour(name, get_service, capfd):
    """The client tests and the live streams pass under another major."""
    try:
        with capfd.disabled():
            python = CLIENTS[name].ensure()
    except Unprovisioned as error:
        if required(name):
            raise
        pytest.skip(str(error))
    services = live_setting(get_service(version) for version in DEFAULT_VERSIONS)
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", "client", "live/test_streams.py"],
        cwd=TESTS,
        env=client_environment(**{LIVE_VARIABLE: services}),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=SECONDS,
        check=False,
    )
    summary = done.stdout.rstrip().rpartition("\n")[2]
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", summary)
    assert passed
    assert int(passed[1]) > 400
