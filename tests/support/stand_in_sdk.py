"""A stand-in for foundry-local-sdk, for what no test can have of the real one: a catalog with models, a download.

It has those names of the SDK that the shim uses. What it says comes from the environment of the program that loads it.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support.environments import REPOSITORY

_PACKAGE = """
import json, os, sys, time

class Configuration:
    class WebService:
        def __init__(self, urls): pass

    def __init__(self, **settings): pass

class Model:
    def __init__(self, told):
        self.__dict__.update(told)
        self.variants = [self]

    def download(self, progress, cancel_event=None):
        while "STAND_IN_ENDLESS" in os.environ:
            try:
                time.sleep(0.05)
            except KeyboardInterrupt:  # native code does not notice it
                pass
            if cancel_event is not None and cancel_event.is_set():
                raise RuntimeError("cancelled")
        for percent in (0.0, 4.0, 10.5, 55.0, 55.9, 100.0):
            progress(percent)

    def load(self): pass

    def unload(self): pass

class Catalog:
    def list_models(self):
        while "STAND_IN_HANGS" in os.environ:
            try:
                time.sleep(0.05)
            except KeyboardInterrupt:  # native code does not notice it
                pass
        return [Model(told) for told in json.loads(os.environ["STAND_IN_MODELS"])]

    def get_model(self, alias):
        return next((model for model in self.list_models() if model.alias == alias), None)

    def get_model_variant(self, name): pass

class FoundryLocalManager:
    instance = None
    catalog = Catalog()

    @classmethod
    def initialize(cls, configuration):
        cls.instance = cls()

    def start_web_service(self):
        self.urls = [os.environ["STAND_IN_URL"]]

    def stop_web_service(self):
        print("the web service was stopped", file=sys.stderr)

    def close(self):
        FoundryLocalManager.instance = None
"""


def stand_in_sdk(folder: Path, models: Sequence[Mapping[str, Any]], *, url: str = "") -> dict[str, str]:
    """Return environment variables for a program that finds this SDK instead of the real one.

    Args:
        folder: Where to write it.
        models: The models of its catalog, with the properties that the SDK's models have.
        url: Where its web service is said to be.
    """
    package = folder / "foundry_local_sdk"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(_PACKAGE, encoding="utf-8")
    (package / "catalog.py").touch()
    (package / "exception.py").write_text("class FoundryLocalException(Exception): pass\n", encoding="utf-8")
    (package / "logging_helper.py").write_text("class LogLevel: FATAL = 5\n", encoding="utf-8")
    return {**_found_in(folder), "STAND_IN_MODELS": json.dumps(models), "STAND_IN_URL": url}


def no_sdk(folder: Path) -> dict[str, str]:
    """Return environment variables for a program that finds no SDK."""
    folder.mkdir(parents=True)
    (folder / "foundry_local_sdk.py").write_text("raise ImportError\n", encoding="utf-8")
    return _found_in(folder)


def _found_in(folder: Path) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join((str(folder), str(REPOSITORY)))}
