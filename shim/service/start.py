"""Starting and stopping Foundry Local, or attaching to one that runs."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from shim.errors import CatalogUnreachableError, ServiceError, import_extra, without_source_location
from shim.reports import logger
from shim.service import state
from shim.service.find import choose, find_service, resolve_model
from shim.service.locator import Locator
from shim.service.native import CancelledError, call_interruptibly

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from threading import Event
    from types import TracebackType
    from typing import Self

    from shim.client import AsyncOpenAI, OpenAI


class Service:
    """A Foundry Local service that answers.

    Attributes:
        base_url: Where the API is; what `openai.OpenAI` takes.
        model: The name that was asked for, if any.
    """

    def __init__(self, base_url: str, model: str | None = None, *, locator: Locator | None = None) -> None:
        """Take the address of a service.

        Args:
            base_url: The address.
            model: The alias or id of a model.
            locator: What has discovered the address, if none was named. Its clients get no key of the environment.
        """
        self.base_url: str = base_url
        self.model = model
        self._locator = locator
        self._model_id: str | None = None

    @property
    def model_id(self) -> str:
        """The id under which the service has the model.

        Raises:
            ServiceError: The service has no such model, or several.
        """
        if self._model_id is None:
            self._model_id = resolve_model(self.base_url, self.model)
        return self._model_id

    def client(self, **options: Any) -> OpenAI:
        """A client for the service; the options are those of `openai.OpenAI`."""
        from shim.client import OpenAI  # noqa: PLC0415 - takes most of a second

        return OpenAI(**self._addressed(options))

    def async_client(self, **options: Any) -> AsyncOpenAI:
        """A client for the service; the options are those of `openai.AsyncOpenAI`."""
        from shim.client import AsyncOpenAI  # noqa: PLC0415 - takes most of a second

        return AsyncOpenAI(**self._addressed(options))

    def _addressed(self, options: dict[str, Any]) -> dict[str, Any]:
        return {**({"base_url": self.base_url} if self._locator is None else {"_locator": self._locator}), **options}

    def stop(self) -> None:
        """Do nothing: this program did not start the service."""

    def __enter__(self) -> Self:
        """Return the service."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Stop the service, if this program started it."""
        self.stop()


class CatalogModel(NamedTuple):
    """What Foundry's catalog states about a model; None where it states nothing."""

    id: str
    alias: str | None
    loaded: bool | None
    cached: bool | None
    tools: bool | None
    context_length: int | None


class FoundryLocal(Service):
    """Foundry Local in this process: starts with the block, stops with it.

    ::

        with shim.FoundryLocal("qwen2.5-1.5b") as foundry:
            client = foundry.client()

    Only one can run in a process at a time; after it was stopped another may start.
    """

    def __init__(
        self,
        alias: str | None = None,
        *,
        model_path: str | os.PathLike[str] | None = None,
        port: int = 0,
        progress: Callable[[float], None] | None = None,
        app_name: str = "foundry-local-shim",
        app_data_dir: str | os.PathLike[str] | None = None,
        catalog_url: str | None = None,
    ) -> None:
        """Take what to serve; nothing is started yet.

        Args:
            alias: A model of Foundry's catalog, by its alias or id. It is downloaded if it is not there.
            model_path: Instead of an alias, a folder with a model of your own: ``genai_config.json`` and its files. It
                is served, not copied.
            port: The port to listen on at 127.0.0.1; 0 takes a free one.
            progress: Called during a download with its progress in percent, from another thread.
            app_name: The name under which Foundry Local keeps its models and logs.
            app_data_dir: That folder, instead of the default one for the name.
            catalog_url: Another catalog than Foundry's own, such as a mirror.

        Raises:
            TypeError: Not exactly one of ``alias`` and ``model_path`` is given.
        """
        if (alias is None) == (model_path is None):
            message = "FoundryLocal takes either the alias of a model or a model_path."
            raise TypeError(message)
        super().__init__("", alias)
        self._path = None if model_path is None else Path(model_path).absolute()
        self._port = port
        self._progress = progress
        self._app_name = app_name
        self._app_data_dir = app_data_dir
        self._catalog_url = catalog_url
        self._temporary_folder: str | None = None
        self._running = ExitStack()

    @classmethod
    def attach(cls, model: str | None = None, *, base_url: str | None = None) -> Service:
        """Find a running service.

        Looks at ``base_url``, then at ``$FOUNDRY_LOCAL_ENDPOINT``. If neither is given, it looks for the services that
        this library has started in any program of the user, the newest first, then at ``~/.foundry/daemon.json``, and
        at last asks ``foundry service status``. The clients of a service that was looked for find it again if it moves
        to another port.

        Args:
            model: The alias or id of the model to use. Optional if the service has one model only.
            base_url: The address, if it is known, in any form: with or without ``/v1``, or as a command has shown it.

        Raises:
            ServiceError: No service answers.
        """
        if base_url and base_url.strip():
            return Service(find_service(base_url), model)
        locator = Locator()
        return Service(locator.locate(), model, locator=locator)

    def catalog(self) -> list[CatalogModel]:
        """Every variant of every model in Foundry's catalog.

        Downloads and loads nothing, and starts no web service.

        Raises:
            ServiceError: The SDK is missing or fails, or runs in this process already.
        """
        return call_interruptibly(lambda _: self._read_catalog(), self.stop)

    def start(self) -> Self:
        """Start the service and load the model. Does nothing where it runs already.

        Raises:
            ServiceError: Something is missing or fails; the error says what, and what to do.
        """
        if self.base_url:
            return self
        try:
            call_interruptibly(self._start, self.stop)
        except BaseException:
            self._remove_temporary_folder()  # after Ctrl-C the process may end before the other thread has done it
            raise
        return self

    def stop(self) -> None:
        """Stop the service and unload the model. Does nothing where nothing runs."""
        self.base_url = ""
        self._locator = None
        self._running.close()

    def __enter__(self) -> Self:
        """Start the service."""
        return self.start()

    def _read_catalog(self) -> list[CatalogModel]:
        with self._running:
            sdk, manager = self._open()
            with _as_service_error("Foundry's catalog could not be read", sdk.exception.FoundryLocalException):
                return [
                    CatalogModel(
                        variant.id,
                        variant.alias,
                        variant.is_loaded,
                        variant.is_cached,
                        variant.supports_tool_calling,
                        variant.context_length,
                    )
                    for model in manager.catalog.list_models()
                    for variant in model.variants
                ]

    def _start(self, cancelled: Event) -> None:
        if self._path is not None and not (self._path / "genai_config.json").is_file():
            raise ServiceError(
                f"The model folder {self._path} has no genai_config.json.",
                remedy="Name the folder of a model for ONNX Runtime GenAI, which contains that file.",
            )
        sdk, manager = self._open()
        failure = sdk.exception.FoundryLocalException
        with _as_service_error(f"Could not obtain model {self.model or self._path}", failure):
            model, prefix = (
                self._catalog_model(manager, cancelled) if self._path is None else self._own_model(sdk, manager)
            )
        if cancelled.is_set():
            raise CancelledError
        with _as_service_error(f"The model {self.model or self._path} could not be loaded", failure):
            model.load()
        self._running.callback(model.unload)
        with _as_service_error("The web service could not be started", failure, port=self._port):
            manager.start_web_service()
        self._running.callback(manager.stop_web_service)
        self._model_id = model.id
        self.base_url = manager.urls[0].rstrip("/") + prefix
        self._locator = Locator(self.base_url, may_move=False)
        self._record(model.id)

    def _record(self, model_id: str) -> None:
        """Let other programs of the user find the service; it serves as well if they cannot."""
        try:
            path = state.record(self.base_url, model_id)
        except (OSError, RuntimeError, ServiceError) as error:
            logger.warning("other programs cannot find this service: %s", error)
        else:
            self._running.callback(state.forget, path)

    def _open(self) -> tuple[Any, Any]:
        """The SDK and its manager, which is closed by `stop`."""
        sdk = _sdk()
        if sdk.FoundryLocalManager.instance is not None:
            raise ServiceError(
                "Foundry Local is running in this process already, and one process can run only one.",
                remedy="Use the running one, or stop it first (leave its `with` block).",
            )
        with _as_service_error("Foundry Local could not be initialised", sdk.exception.FoundryLocalException):
            return sdk, self._initialise(sdk)

    def _initialise(self, sdk: Any) -> Any:
        folder = self._app_data_dir
        if folder is None and self._path is not None:
            # The data folder remembers every registration; a temporary one keeps the user's folder clean.
            folder = self._temporary_folder = tempfile.mkdtemp(prefix="foundry-local-shim-")
            self._running.callback(self._remove_temporary_folder)
        sdk.FoundryLocalManager.initialize(
            sdk.Configuration(
                app_name=self._app_name,
                app_data_dir=None if folder is None else os.fspath(folder),
                # Failures are raised. The runtime's own log lines would appear in the middle of an answer.
                log_level=sdk.logging_helper.LogLevel.FATAL,
                catalog_urls=[(self._catalog_url, None)] if self._catalog_url else None,
                web=sdk.Configuration.WebService(urls=f"http://127.0.0.1:{self._port}"),
            )
        )
        manager = sdk.FoundryLocalManager.instance
        self._running.callback(manager.close)
        return manager

    def _remove_temporary_folder(self) -> None:
        if self._temporary_folder is not None:
            shutil.rmtree(self._temporary_folder, ignore_errors=True)

    def _catalog_model(self, manager: Any, cancelled: Event) -> tuple[Any, str]:
        name = self.model or ""
        model = manager.catalog.get_model(name) or manager.catalog.get_model_variant(name)
        if model is None:
            listed = manager.catalog.list_models()
            if not listed:
                raise CatalogUnreachableError(
                    "Foundry's model catalog cannot be reached, and no model was downloaded before.",
                    remedy="Connect to the internet for the first start, or serve a model folder on this machine, as "
                    "`foundry-shim chat --model-path FOLDER` does.",
                )
            variants = {variant.id: variant for group in listed for variant in group.variants}
            model = variants[choose(name, variants, "Foundry's catalog")]
        if not model.is_cached:
            model.download(self._progress, cancelled)
        return model, "/v1"

    def _own_model(self, sdk: Any, manager: Any) -> tuple[Any, str]:
        path = self._path or Path()
        catalog = manager.get_catalog(sdk.catalog.CatalogType.LOCAL)
        with sdk.ModelInfoBuilder() as metadata:
            metadata.set_string_property("task", "chat-completion")
            model = catalog.register_model(model_path=path, model_id=own_model_id(path), metadata=metadata)
        return model, "/catalogs/local/v1"


def own_model_id(folder: Path) -> str:
    """The id under which a model folder is served."""
    name = re.sub(r"[^\w.-]+", "-", folder.name) or "model"
    return f"{name}:1"


def _sdk() -> Any:
    sdk = import_extra("service", "foundry_local_sdk")
    for part in ("catalog", "exception", "logging_helper"):
        import_extra("service", f"foundry_local_sdk.{part}")
    return sdk


@contextmanager
def _as_service_error(what: str, failure: type[Exception], *, port: int = 0) -> Generator[None]:
    """Turn a failure of the SDK into a `ServiceError`."""
    try:
        yield
    except failure as error:
        reason = without_source_location(str(error))
        if port and "already in use" in reason:
            raise ServiceError(
                f"Port {port} is in use by another program.", remedy="Choose another port, or 0 for a free one."
            ) from error
        raise ServiceError(
            f"{what}: {reason}.", remedy="Foundry Local's log in its data folder may say more."
        ) from error
