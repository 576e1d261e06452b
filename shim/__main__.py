"""The command ``foundry-shim``, also as ``python -m shim``."""

from __future__ import annotations

import sys

from shim.errors import MissingExtraError, import_extra


def main() -> None:
    """Run the command line; ends the process with its exit code."""
    try:
        for package in ("typer", "rich"):
            import_extra("cli", package)
        from shim.cli import run  # noqa: PLC0415 - cannot be imported where the extra is missing

        run()
    except MissingExtraError as error:
        sys.exit(f"foundry-shim: {error}")  # a text is an exit code of 1, after one line on standard error
    except KeyboardInterrupt:  # while the packages above are still being imported
        sys.exit(130)


if __name__ == "__main__":
    main()
