"""What a Python does at its start under ``foundry-shim run``: it prepares `shim.install` for its program.

The command puts this folder in front of PYTHONPATH, so every Python that the program starts runs this file as well,
with whatever version and packages it has. So the file is written plainly, loads next to nothing, and never fails.
"""

# Older versions of Python read it, too.
# ruff: noqa: ANN001, ANN202, PTH113, PTH118, PTH120, T201, UP032
# pyright: basic

import os
import sys

FIRST_PROCESS = "FOUNDRY_SHIM_FIRST_PROCESS"
HOSTS = "FOUNDRY_SHIM_HOSTS"
INSTALL = "FOUNDRY_SHIM_INSTALL"
_LIBRARIES = ("httpx", "httpx2")
_NEEDED = ("shim", "orjson", "anyio")


class _Trigger:
    """Stands in ``sys.meta_path`` until the program imports an HTTP library.

    Nothing of the shim is loaded before that: most Pythons that a program starts have no use for it, and a program may
    have a module of its own by that name.
    """

    def find_spec(self, name, path=None, target=None):
        """Install the repair, and let its own finder find the library."""
        if name not in _LIBRARIES:
            return None
        try:
            if _is_ours(_find("shim")):
                from shim.installation import install  # noqa: PLC0415

                install(hosts=[host for host in os.environ.get(HOSTS, "").split(",") if host])
            else:
                _say("The program has a module of its own named shim, so nothing is repaired. Rename that module.")
        except Exception as error:  # noqa: BLE001 - the program goes on without the repair
            _say("Nothing is repaired: {}: {}".format(type(error).__name__, error))
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        return _find(name, path, target)


def _find(name, path=None, target=None):
    for finder in list(sys.meta_path):
        find = getattr(finder, "find_spec", None)
        spec = find(name, path, target) if find else None
        if spec is not None:
            return spec
    return None


def _is_ours(spec):
    """Whether it is this package, and not a module of the program's by the same name."""
    folder, file = os.path.split((spec and spec.origin) or "")
    return file == "__init__.py" and os.path.isfile(os.path.join(folder, "installation.py"))


def _is_first():
    """Whether this is the Python that the command has started, itself or by a program in another language."""
    # On Windows, and under a launcher, it is a child of the process that the command has become or started.
    ids = (str(os.getpid()), str(os.getppid()))
    return os.environ.pop(FIRST_PROCESS, None) in ids


def _say(text):
    if sys.stderr is not None:
        print("foundry-shim: " + text, file=sys.stderr)


def _prepare():
    is_first = _is_first()
    lacking = sys.version_info < (3, 11) or not _is_ours(_find("shim")) or not all(_find(name) for name in _NEEDED)
    if not lacking:
        sys.meta_path.insert(0, _Trigger())
    elif is_first:
        _say(
            "The Python at {0} does not have foundry-local-shim, so nothing is repaired. Install it with: {0} -m pip "
            "install {1}".format(sys.executable, os.environ.get(INSTALL, ""))
        )


def _run_hidden():
    """Run the ``sitecustomize`` that this one stands in front of, under its name."""
    from importlib.machinery import PathFinder  # noqa: PLC0415 - an old Python has no such thing

    here = os.path.realpath(os.path.dirname(__file__))
    last = max([number for number, entry in enumerate(sys.path) if entry and os.path.realpath(entry) == here] or [-1])
    spec = PathFinder.find_spec("sitecustomize", sys.path[last + 1 :])
    if spec is not None and spec.loader is not None:
        from importlib.util import module_from_spec  # noqa: PLC0415 - most have none

        module = sys.modules["sitecustomize"] = module_from_spec(spec)
        spec.loader.exec_module(module)


if __name__ == "sitecustomize":  # the command imports this file for its names only
    _prepare()
    _run_hidden()
