"""One way to ask, for every client: sync and async, either HTTP library, create() and the .stream() helper, raw.

The behaviour tests are written once against this and run in every combination that the installed openai allows.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import httpx
import openai

import shim

MAJOR = int(openai.__version__.split(".")[0])

try:
    import httpx2
except ImportError:  # openai 1.x does without it
    httpx2 = None

FAMILIES = {"httpx": httpx, **({"httpx2": httpx2} if httpx2 and MAJOR > 1 else {})}
MESSAGES = [{"role": "user", "content": "<|haiku|>"}]
MODES = ("sync", "async")
HELPERS = ("create", "stream")


@dataclass
class Answer:
    """What a program got out of a stream.

    Attributes:
        text: The text of the first choice.
        chunks: Every chunk, or for the helper every chunk that its events carry.
        completion: What the helper accumulated.
        error: What was raised.
        report: What the shim repaired.
        usage_asked: Whether a chunk without choices is expected.
        on_chunk: Called with each chunk when it has been read.
    """

    text: str = ""
    chunks: list[Any] = field(default_factory=list)
    completion: Any = None
    error: BaseException | None = None
    report: Any = None
    usage_asked: bool = False
    on_chunk: Callable[[Any], None] | None = None

    @property
    def reason(self):
        """The last finish reason that was given."""
        return next(
            (c.finish_reason for each in self.chunks[::-1] for c in each.choices or [] if c.finish_reason), None
        )

    @property
    def ids(self):
        """The ids of the chunks."""
        return {chunk.id for chunk in self.chunks}

    def take(self, chunk):
        """Read a chunk as a program does that keeps to OpenAI's documentation."""
        self.chunks.append(chunk)
        if chunk.choices or not self.usage_asked:
            self.text += chunk.choices[0].delta.content or ""
        if self.on_chunk:
            self.on_chunk(chunk)


@dataclass(frozen=True)
class Client:
    """One combination of what a program may use.

    Attributes:
        family: "httpx" or "httpx2".
        mode: "sync" or "async".
        helper: "create" or "stream".
        repaired: Whether the shim is under the official client.
        is_in_every_run: Whether it is one of those that are tried without ``--all`` as well.
    """

    family: str
    mode: str
    helper: str = "create"
    repaired: bool = True
    is_in_every_run: bool = True

    def __str__(self):
        return f"{self.family}-{self.mode}-{self.helper}"

    def make(self, base_url: str, **options: Any):
        """Make the client. The default family is taken the way a person takes it, the other one by its transport."""
        asynchronous = self.mode == "async"
        official = openai.AsyncOpenAI if asynchronous else openai.OpenAI
        options = {"base_url": base_url, "api_key": "none", "max_retries": 0, "timeout": 30, **options}
        if self.family == default_family():
            if self.repaired:
                official = shim.AsyncOpenAI if asynchronous else shim.OpenAI
                del options["api_key"]
            return official(**options)
        return official(http_client=self.other_family_client(base_url), **options)

    def other_family_client(self, base_url: str):
        """An HTTP client of the family that openai would not choose; the address is named as by `shim.OpenAI`."""
        library = FAMILIES[self.family]
        service = base_url.removesuffix("/v1")
        if self.mode == "async":
            inner = library.AsyncHTTPTransport()
            return library.AsyncClient(
                transport=shim.AsyncRepairTransport(inner, service=service) if self.repaired else inner
            )
        inner = library.HTTPTransport()
        return library.Client(transport=shim.RepairTransport(inner, service=service) if self.repaired else inner)

    def ask(
        self, base_url: str, *, model: str = "m", on_chunk: Callable[[Any], None] | None = None, **parameters: Any
    ) -> Answer:
        """Ask once with a client of its own, read to the end, and note what came; an error is noted, too."""
        [answer] = self.ask_often(base_url, 1, model=model, on_chunk=on_chunk, **parameters)
        return answer

    def ask_often(
        self,
        base_url: str,
        times: int,
        *,
        make: Mapping[str, Any] | None = None,
        model: str = "m",
        on_chunk: Callable[[Any], None] | None = None,
        **parameters: Any,
    ) -> list[Answer]:
        """Ask several times with one client, made with further options."""
        options = {"model": model, "messages": MESSAGES, "on_chunk": on_chunk, **parameters}
        if self.mode == "async":
            return anyio.run(self._ask_async, base_url, times, make or {}, options)
        with self.make(base_url, **(make or {})) as client:
            return [self.ask_with(client, **options) for _ in range(times)]

    def ask_with(self, client: Any, *, on_chunk: Callable[[Any], None] | None = None, **options: Any) -> Answer:
        """Ask with a sync client that exists."""
        answer = Answer(usage_asked="stream_options" in options, on_chunk=on_chunk)
        try:
            if self.helper == "create":
                stream = client.chat.completions.create(stream=True, **options)
                answer.report = shim.report(stream)
                for chunk in stream:
                    answer.take(chunk)
            else:
                with stream_helper(client)(**options) as stream:
                    answer.report = shim.report(stream)
                    for event in stream:
                        if event.type == "chunk":
                            answer.take(event.chunk)
                    answer.completion = stream.get_final_completion()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            answer.error = error
        return answer

    async def _ask_async(self, base_url, times, make, options):
        async with self.make(base_url, **make) as client:
            return [await self.ask_with_async(client, **options) for _ in range(times)]

    async def ask_with_async(self, client: Any, *, on_chunk: Callable[[Any], None] | None = None, **options: Any):
        """Ask with an async client that exists."""
        answer = Answer(usage_asked="stream_options" in options, on_chunk=on_chunk)
        try:
            if self.helper == "create":
                stream = await client.chat.completions.create(stream=True, **options)
                answer.report = shim.report(stream)
                async for chunk in stream:
                    answer.take(chunk)
            else:
                async with stream_helper(client)(**options) as stream:
                    answer.report = shim.report(stream)
                    async for event in stream:
                        if event.type == "chunk":
                            answer.take(event.chunk)
                    answer.completion = await stream.get_final_completion()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            answer.error = error
        return answer


def stream_helper(client: Any):
    """The .stream() helper; 1.x has it under beta, and later ones too."""
    completions = client.chat.completions
    return completions.stream if hasattr(completions, "stream") else client.beta.chat.completions.stream


def default_family() -> str:
    """The HTTP library that the installed openai takes by itself."""
    return "httpx2" if MAJOR > 2 else "httpx"


def is_in_usual_half(names: Collection[str]) -> bool:
    """Whether a combination of library and mode, or of these and helper, is in the half that is always tried."""
    return sum(each in names for each in (*(FAMILIES.keys() - {default_family()}), "async", "stream")) % 2 == 0


def clients(*, helpers=HELPERS, modes=MODES) -> list[Client]:
    """Every combination that the installed openai allows. Two that have nothing in common are in every run."""
    every = [Client(family, mode, helper) for family in FAMILIES for mode in modes for helper in helpers]
    return [replace(each, is_in_every_run=each in (every[0], every[-1])) for each in every]
