"""Contract line 11: the same behaviour under openai 1.x, 2.x and 3.x, shown by the same tests.

Each major has an environment of its own. The tests that talk to clients run there as they run here, against the same
services: what this session started is handed over.
"""

import re
import subprocess
from pathlib import Path

import pytest

from support.clients import CLIENTS, INSTALLED_MAJOR, client_environment
from support.environments import Unprovisioned, required
from support.releases import DEFAULT_VERSIONS
from support.service import LIVE_VARIABLE, live_setting

pytestmark = pytest.mark.extended

TESTS = Path(__file__).parents[1]
OTHERS = [name for name in CLIENTS if name != INSTALLED_MAJOR]
SECONDS = 900


@pytest.fixture(scope="module")
def runs(service_pool, tmp_path_factory):
    """The test runs under all other majors that can be had, at the same time."""
    services = live_setting(service_pool.get(version) for version in DEFAULT_VERSIONS)
    folder = tmp_path_factory.mktemp("majors")
    started = {}
    for name in OTHERS:
        try:
            python = CLIENTS[name].ensure()
        except Unprovisioned as error:
            started[name] = error
            continue
        with (folder / name).open("wb") as output:
            process = subprocess.Popen(
                [
                    python,
                    "-m",
                    "pytest",
                    "-q",
                    "-n0",
                    "-p",
                    "no:cacheprovider",
                    "--no-header",
                    # The commands run under one of them.
                    "--ignore-glob=*/test_cli_*",
                    "--ignore=client/test_demo.py",
                    "client",
                    "live/test_streams.py",
                    "live/test_openai_features.py",
                ],
                cwd=TESTS,
                env=client_environment(**{LIVE_VARIABLE: services}),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        started[name] = process, folder / name
    yield started
    for run in started.values():
        if isinstance(run, tuple) and run[0].poll() is None:
            run[0].kill()
            run[0].wait()


@pytest.mark.parametrize("name", OTHERS)
def test_other_major_passes_the_same_tests(name, runs):
    """The client tests and the live streams pass under another major."""
    if isinstance(runs[name], Unprovisioned):
        if required(name):
            raise runs[name]
        pytest.skip(str(runs[name]))
    process, output = runs[name]
    code = process.wait(SECONDS)
    told = output.read_text(encoding="utf-8", errors="replace")
    assert code == 0, told[-8000:]
    passed = re.search(r"(\d+) passed", told.rstrip().rpartition("\n")[2])
    assert passed
    assert int(passed[1]) > 400
