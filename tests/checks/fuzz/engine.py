"""The fuzzer's own process, in an environment that has atheris: ``python -m fuzz.engine CRASHES [its options]``.

An input that fails is kept, the shortest of each kind, and the run goes on. One that takes too long ends the process:
libFuzzer keeps it itself.
"""

import hashlib
import sys
import time
import traceback
from pathlib import Path

import atheris

# All that is to be guided by its coverage; what the tests add to it is not.
with atheris.instrument_imports(include=["shim"]):
    from checks.fuzz.target import decoded, run

_shortest: dict[str, int] = {}
_started = time.monotonic()


def main() -> None:
    """Run until libFuzzer has had enough."""
    folder = Path(sys.argv[1])

    def look_at(data: bytes) -> None:
        try:
            run(data)
        except Exception as error:  # noqa: BLE001 - what the run is for
            _keep(folder, data, error)

    atheris.Setup([sys.argv[0], *sys.argv[2:]], look_at)
    atheris.Fuzz()


def _keep(folder: Path, data: bytes, error: Exception) -> None:
    """Keep an input if it is the shortest of those that fail in the same place."""
    frames = traceback.extract_tb(error.__traceback__)
    what = "" if str(error).count("\n") else str(error).partition(":")[0][:100]
    kind = f"{decoded(data).target} {type(error).__name__} {frames[-1].name} {frames[-1].lineno} {what}"
    if kind not in _shortest:
        print(f"FAILED after {time.monotonic() - _started:.0f} s: {kind}", file=sys.stderr, flush=True)
    if len(data) < _shortest.get(kind, sys.maxsize):
        _shortest[kind] = len(data)
        name = hashlib.sha256(kind.encode()).hexdigest()[:16]
        folder.joinpath(f"crash-{name}").write_bytes(data)


if __name__ == "__main__":
    main()
