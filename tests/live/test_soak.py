"""A minute of mixed streams on both generations at once; ``python tests/checks/soak`` runs longer."""

import json
import os
import subprocess
import sys

from checks.soak.kinds import KINDS
from checks.soak.run import FEWEST, WARM_UP
from support.clients import client_environment
from support.environments import REPOSITORY
from support.service import LIVE_VARIABLE, live_setting

SECONDS_VARIABLE = "FOUNDRY_SHIM_SOAK_SECONDS"


def test_soak(service_1x, service_2x, tmp_path):
    """Every text is right, and memory, connections, threads and tasks stay what they were."""
    seconds = float(os.environ.get(SECONDS_VARIABLE, "60"))
    services = (service_1x, service_2x)
    releases = [service.version for service in services]
    measured = tmp_path / "soak.json"
    command = [sys.executable, "tests/checks/soak", f"--seconds={seconds}", f"--releases={','.join(releases)}"]
    # In a process of its own, which holds nothing of the other tests'.
    done = subprocess.run(
        [*command, f"--json={measured}"],
        cwd=REPOSITORY,
        env=client_environment(**{LIVE_VARIABLE: live_setting(services)}),
        capture_output=True,
        encoding="utf-8",
        timeout=2 * seconds + 120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(measured.read_text(encoding="utf-8"))
    assert {name.partition(" ")[0] for name, count in result["done"].items() if count} == set(releases)
    # On a machine where so few are done, nothing can be told of what each of them leaves.
    assert result["blocks a stream"] is not None or result["samples"][-1]["streams"] < WARM_UP + 3 * FEWEST
    if result["samples"][-1]["streams"] >= WARM_UP:
        assert {name for name, count in result["done"].items() if count} >= {
            f"{release} {kind.name}" for release in releases for kind in KINDS if kind.times > 1
        }
