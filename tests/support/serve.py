"""Serves a model folder with whatever release of Foundry Local is installed beside the Python that runs this.

It needs nothing but the standard library and foundry_local_sdk, 1.x or 2.x, and never touches the internet: the catalog
that the runtime asks for its models is an empty one in this very process. Once the service listens, a JSON object
on a line of its own on standard output says where. The service stops when standard input ends, which it does
whichever way the parent goes, or on SIGTERM.
"""

import argparse
import inspect
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

from foundry_local_sdk import Configuration, FoundryLocalManager

# What asks for any of these finds it: all the shapes of an answer without models, of all the releases, in one.
EMPTY_CATALOG = {
    "indexEntitiesResponse": {"totalCount": 0, "value": [], "nextSkip": None, "continuationToken": None},
    "totalCount": 0,
    "value": [],
    "summaries": [],
    "continuationToken": None,
}
LEGACY_CATALOG_PATH = "/api/eastus/ux/v1.0"
CATALOG_PATH = "/asset-gallery/v1.0/models"
LOCAL_CATALOG_PATH = "/catalogs/local"


class CatalogHandler(BaseHTTPRequestHandler):
    """Answers that there are no models, whatever the question."""

    def do_POST(self):
        """Answer a search."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.dumps(EMPTY_CATALOG).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST  # noqa: N815 - http.server looks for that name

    def log_message(self, format, *args):  # noqa: A002 - the parameter's name in http.server
        """Keep quiet."""


@contextmanager
def empty_catalog():
    """Run the catalog and give its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), CatalogHandler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def configuration(work, catalog_url):
    """Return a configuration that keeps to the work folder and to the given catalog, in the words of this release."""
    known = inspect.signature(Configuration.__init__).parameters
    settings = {
        "app_name": "foundry-local-shim-tests",
        "app_data_dir": str(work / "app"),
        "model_cache_dir": str(work / "models"),
        "logs_dir": str(work / "logs"),
        "web": Configuration.WebService(urls="http://127.0.0.1:0"),
    }
    if "catalog_urls" in known:
        path = CATALOG_PATH if has_local_catalog() else LEGACY_CATALOG_PATH
        settings["catalog_urls"] = [(catalog_url + path, None)]
    else:
        settings["additional_settings"] = {"AzureCatalogUri": catalog_url + LEGACY_CATALOG_PATH}
    if "disable_nonessential_telemetry" in known:
        settings["disable_nonessential_telemetry"] = True
    return Configuration(**settings)


def has_local_catalog():
    """Return whether this release, 2.1 or later, lets a program register a model folder wherever it lies."""
    from foundry_local_sdk import catalog  # noqa: PLC0415 - looked at in the one place where it differs

    return hasattr(catalog, "CatalogType")


def put_into_cache(model_folder, model_id, work):
    """Put a copy of the model where 1.x and 2.0 find it: among the models they believe they downloaded."""
    folder = work / "models" / "Local" / model_id.replace(":", "-")
    shutil.copytree(model_folder, folder)
    (folder / "inference_model.json").write_text(json.dumps({"Name": model_id}), encoding="utf-8")


def find_in_cache(manager, model_id):
    """Return the model that was put into the cache."""
    manager.catalog.list_models()
    model = manager.catalog.get_model_variant(model_id)
    if model is None:
        message = f"{model_id} is not among the cached models"
        raise LookupError(message)
    return model


def register(manager, model_folder, model_id, properties):
    """Return the model, registered in the local catalog."""
    from foundry_local_sdk import ModelInfoBuilder  # noqa: PLC0415 - 2.1 and later
    from foundry_local_sdk.catalog import CatalogType  # noqa: PLC0415 - the same

    with ModelInfoBuilder() as metadata:
        for name, value in {"task": "chat-completion", **properties}.items():
            metadata.set_string_property(name, value)
        catalog = manager.get_catalog(CatalogType.LOCAL)
        return catalog.register_model(model_path=str(model_folder), model_id=model_id, metadata=metadata)


@contextmanager
def running_service(options, work, catalog_url):
    """Run the web service with the model loaded; give its base URL and what it calls the model."""
    local = has_local_catalog()
    if not local:
        put_into_cache(options.model_folder, options.model_id, work)
    FoundryLocalManager.initialize(configuration(work, catalog_url))
    manager = FoundryLocalManager.instance
    try:
        if local:
            model = register(manager, options.model_folder, options.model_id, dict(options.property))
        else:
            model = find_in_cache(manager, options.model_id)
        model.load()
        manager.start_web_service()
        try:
            yield manager.urls[0].rstrip("/") + (LOCAL_CATALOG_PATH if local else "") + "/v1", model.id
        finally:
            manager.stop_web_service()
    finally:
        if hasattr(manager, "close"):
            manager.close()


@contextmanager
def work_folder(given):
    """Give a folder for everything that the runtime writes, and remove it at the end."""
    work = Path(given or tempfile.mkdtemp(prefix="foundry-local-"))
    try:
        (work / "models").mkdir(parents=True, exist_ok=True)
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)  # a log may still be open on Windows


def own_standard_output():
    """Return standard output for this program alone; what the runtime's libraries print goes to standard error."""
    mine = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return mine


def watch_for_the_end():
    """Return an event that is set when standard input ends, or by SIGTERM."""
    ended = threading.Event()
    # Not before the service runs: the runtime of 1.x installs a handler of its own, which ends nothing.
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    threading.Thread(target=read_to_the_end, args=(sys.stdin.fileno(), ended), daemon=True).start()
    return ended


def read_to_the_end(descriptor, ended):
    """Read without Python's buffers, which would not let the interpreter exit in the middle of it."""
    while os.read(descriptor, 4096):
        pass
    ended.set()


def property_pair(text):
    """Read name=value."""
    name, separator, value = text.partition("=")
    if not separator:
        message = f"{text!r} is not name=value"
        raise argparse.ArgumentTypeError(message)
    return name, value


def arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model_folder", type=Path)
    parser.add_argument("model_id", help="name:version")
    parser.add_argument("--work", type=Path, help="a folder to use and to remove instead of a temporary one")
    parser.add_argument(
        "--property",
        type=property_pair,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="for the registration of the model in 2.1 and later; may be repeated",
    )
    return parser.parse_args()


def main():
    """Serve until told to stop."""
    options = arguments()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C reaches the whole group; the parent says when it is over
    with ExitStack() as stack:
        output = stack.enter_context(own_standard_output())
        work = stack.enter_context(work_folder(options.work))
        catalog_url = stack.enter_context(empty_catalog())
        base_url, model_id = stack.enter_context(running_service(options, work, catalog_url))
        ready = {
            "ready": True,
            "sdk": version("foundry-local-sdk"),
            "base_url": base_url,
            "model_id": model_id,
            "pid": os.getpid(),
        }
        ended = watch_for_the_end()
        print(json.dumps(ready), file=output, flush=True)
        while not ended.wait(0.2):  # wakes up because a signal may have come to one of the runtime's threads
            pass


if __name__ == "__main__":
    main()
