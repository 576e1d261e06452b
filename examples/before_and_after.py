"""See what the shim repairs: recorded streams of Foundry Local, with the official client and with the shim.

    python examples/before_and_after.py

It takes about two seconds. No service, model or download is needed.
"""

import sys

from shim import demo

if __name__ == "__main__":
    try:
        sys.exit(demo.run())
    except KeyboardInterrupt:
        sys.exit(130)
