"""The demo, as a command."""

import typer


def demo() -> None:
    """Show what the shim repairs, with recorded streams.

    A recording of Foundry Local 1.2.4 is played to the official client without the shim, and with it. No service, model
    or download is needed. With NO_COLOR=1 it is shown without colours.
    """
    from shim.demo import run

    if code := run():
        raise typer.Exit(code)
