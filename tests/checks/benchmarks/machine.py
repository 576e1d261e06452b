"""Where the figures were taken, and with which versions of everything."""

import datetime as dt
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from checks.benchmarks.core import PEERS
from checks.benchmarks.corpus import RELEASES
from checks.benchmarks.harness import Settings
from checks.benchmarks.proxy import LITELLM

PACKAGES = (
    "foundry-local-shim",
    "openai",
    "httpx",
    "httpx2",
    "httpcore",
    "h11",
    "anyio",
    "orjson",
    "pydantic",
    "sseclient-py",
)


def machine(settings: Settings) -> dict[str, Any]:
    """Return what a reader of the figures has to know."""
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "foundry_local": list(RELEASES.values()),
        "peers": [environment.installs[-1][-1] for environment in (PEERS, LITELLM)],
        "rounds": settings.rounds,
        "quick": settings.quick,
        "seed": settings.seed,
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
