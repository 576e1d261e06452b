"""What goes wrong with a real service and in the program that asks it, and what a person should see of it.

A fault has two sides. The program's is a coroutine here, written once: with a sync client nothing in it ever waits for
an event loop. The service's is the names of what is done to it, which whoever started the service does (`runs.Stage`),
once for all the programs that have said that they have come so far.
"""

import asyncio
import gc
import itertools
import json
import os
import select
import signal
import sys
import threading
import time
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import openai

import shim
from checks.faults.outcomes import Holdings, Outcome
from support.either import awaited, run_sync
from support.scripted_model import SCRIPTS, marker
from support.talk import FAMILIES, default_family

if sys.platform != "win32":
    import resource

COMPLETE = "complete"
REMEDIES = ("`foundry-shim doctor` finds it", "a new port")
TOO_SOON, TOO_LATE = "the fault came too soon", "the fault came too late"
# Longer than anything here takes; what hangs is found by it, and nothing is measured with it.
DEADLINE = 30.0
READ_TIMEOUT = 2.0
# The first chunks come slowly while six programs ask a service that runs in pulses.
BETWEEN_CHUNKS = 4.0
PAUSE = 1.5
STREAMS_AT_ONCE = 200
THREADS, STREAMS_EACH = 8, 10
# Short texts: what is many is the streams.
TEXTS = ("haiku", "tool", "array")
MAX_TOKENS = 12_000
# Enough to stop a service in the middle of, and few enough to read on a slow machine.
SOME_TOKENS = 2000
END = b"data: [DONE]"
WIRE = "foundry_shim_wire"
"""The extension of a response that holds what came over the connection."""
_REQUEST_SENT = "http11.send_request_body.complete"


@dataclass(frozen=True)
class ServiceFault:
    """A line of the table.

    Attributes:
        name: What goes wrong.
        play: The program: returns in words what a person sees.
        expected: These words, by the major of the client where they are openai's own.
        opening: What is done to the service before the programs ask.
        deeds: What is done to it, one after another, each when all programs have said that they have come so far.
        closing: What is done to it in the end.
        modes: Which kinds of clients can have it.
        deadline: The seconds until the program has been told.
        pulsed: Whether the service runs in short pulses until the programs have come so far, and then not at all. It
            would be done with its answer long before they have, since all of it fits into the buffers of the system.
        apart: Whether the programs have it one after another.
        backend: What runs the event loop.
    """

    name: str
    play: Callable[["Session"], Coroutine[Any, Any, str]]
    expected: Callable[[str], str]
    opening: str = "serve"
    deeds: tuple[str, ...] = ()
    closing: str = "leave"
    modes: tuple[str, ...] = ("sync", "async")
    deadline: float = DEADLINE
    pulsed: bool = False
    apart: bool = False
    backend: str = "asyncio"


@dataclass
class Session:
    """A fault being played in this process, with a service somewhere else.

    Attributes:
        base_url: Where the service is.
        model: The name of its model.
        major: Of the official client.
        mode: "sync" or "async".
        wait: Says that the program has come so far, and returns when the deed was done, in ``time.monotonic``.
        on_sent: Called once, when a request has been sent.
        since: When the fault happened.
        told: When the program was told.
        forgiving: Whether a connection may be in use until its client is closed.
    """

    base_url: str
    model: str
    major: str
    mode: str
    wait: Callable[[], float]
    on_sent: Callable[[], None] | None = None
    since: float = field(default_factory=time.monotonic)
    told: float = 0.0
    forgiving: bool = False

    def reached(self) -> None:
        """Say so, and wait for the fault."""
        self.since = self.wait()

    @asynccontextmanager
    async def client(self, base_url: str | None = None, **options: Any) -> AsyncIterator[Any]:
        """Give a client, and see to it that it uses none of its connections any more in the end."""
        library = FAMILIES[default_family()]
        is_async = self.mode == "async"
        transport = (_async_tap if is_async else _tap)(library, self)
        make_http_client = openai.DefaultAsyncHttpxClient if is_async else openai.DefaultHttpxClient
        official = shim.AsyncOpenAI if is_async else shim.OpenAI
        options = {"timeout": DEADLINE, "max_retries": 0, **options}
        http_client = make_http_client(transport=transport, timeout=options["timeout"])
        client = official(base_url=base_url or self.base_url, http_client=http_client, **options)
        try:
            yield client
            await self.settled(client)
        finally:
            await awaited(client.close())

    async def settled(self, client: Any) -> None:
        """Fail where a connection is still in use though nothing is read any more."""
        if self.forgiving:
            return
        pool = client._client._transport.inner._pool
        deadline = time.monotonic() + DEADLINE
        while busy := [each for each in pool.connections if not each.is_idle()]:
            if time.monotonic() > deadline:
                raise LeftOverError(f"{len(busy)} connections in use")
            await self.sleep(0.02)

    async def open(self, client: Any, script: str = "long", *, max_tokens: int = MAX_TOKENS) -> "Reading":
        """Ask for a text and give its stream."""
        messages = [{"role": "user", "content": marker(script)}]
        stream = await awaited(
            client.chat.completions.create(model=self.model, stream=True, max_tokens=max_tokens, messages=messages)
        )
        return Reading(stream, stream.response.extensions[WIRE])

    async def sleep(self, seconds: float) -> None:
        """Wait, without stopping an event loop."""
        if self.mode == "async":
            await anyio.sleep(seconds)
        else:
            time.sleep(seconds)  # noqa: ASYNC251 - nothing else runs here


class LeftOverError(Exception):
    """Something is held that should not be."""


@dataclass
class Reading:
    """A stream as far as it has been read."""

    stream: Any
    wire: bytearray
    text: str = ""
    reason: str | None = None

    async def read(self, *, chunks: int | None = None, until_reason: bool = False) -> None:
        """Read that many chunks, or up to the one with the finish reason, or to the end."""
        for _ in itertools.count() if chunks is None else range(chunks):
            chunk = await _next(self.stream)
            if chunk is None:
                return
            choice = chunk.choices[0]
            self.text += choice.delta.content or ""
            self.reason = choice.finish_reason or self.reason
            if until_reason and self.reason:
                return

    async def close(self) -> None:
        """Close the stream."""
        await awaited(self.stream.close())


async def whole_text(session: Session, client: Any, script: str) -> str:
    """Ask for a text and say whether it came, in words; close the stream."""
    reading = await session.open(client, script)
    await reading.read()
    await reading.close()
    return COMPLETE if reading.text == SCRIPTS[script] else f"other text than {script}: {reading.text[:200]!r}"


async def failure(asked: Awaitable[Any]) -> str:
    """Say how a request fails."""
    try:
        value = await asked
    except Exception as error:  # noqa: BLE001 - it is what a person sees
        return words(error)
    return value if isinstance(value, str) else "an answer"


def words(error: BaseException) -> str:
    """Name an exception, and say whether its cause tells what to do."""
    library = type(error).__module__.partition(".")[0]
    name = type(error).__name__ if library == "openai" else f"{library}.{type(error).__name__}"
    said = " ".join(map(str, _causes(error)))
    if any(remedy in said for remedy in REMEDIES):
        return f"{name} that says what to do"
    return f"{name} that names the files" if "Too many open files" in said else name


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


async def to_the_end(session: Session, reading: Reading, script: str = "long") -> str:
    """Read the rest of a stream; say how it ends, and whether all came that was on its way to this program."""
    error = None
    try:
        await reading.read()
    except Exception as raised:  # noqa: BLE001 - it is what a person sees
        error = raised
    session.told = time.monotonic()
    if error is None:
        return COMPLETE if _is_whole(reading, script) else f"an end after {len(reading.text)} characters"
    wire = reading.wire
    if END in wire:
        return f"{TOO_LATE}: {words(error)}"
    came = text_on(wire)
    what = "all that came" if reading.text == came else f"{len(reading.text)} of {len(came)} characters"
    return f"{words(error)} after {what}"


def _is_whole(reading: Reading, script: str) -> bool:
    if reading.reason == "length":
        return (
            END in reading.wire and reading.text == text_on(reading.wire) and SCRIPTS[script].startswith(reading.text)
        )
    return reading.reason == "stop" and reading.text == SCRIPTS[script]


def text_on(wire: bytes) -> str:
    """Return the text in the events of a response's body."""
    text = ""
    for line in wire.split(b"\n"):
        with suppress(ValueError):  # a line that is cut
            for choice in json.loads(line.removeprefix(b"data: "))["choices"] if line.startswith(b"data: {") else ():
                text += choice["delta"].get("content") or ""
    return text


# The program's side of what is done to a service.


async def ask_and_reach(session: Session) -> str:
    """Come so far that the request is sent."""
    session.on_sent = session.reached
    async with session.client(max_retries=1) as client:
        said = await failure(session.open(client))
        session.told = time.monotonic()
    return said


async def ask_impatiently(session: Session) -> str:
    """Come so far that the request is sent; wait for the answer a little only."""
    session.on_sent = session.reached
    async with session.client(timeout=READ_TIMEOUT) as client:
        said = await failure(session.open(client))
        session.told = time.monotonic()
    return said


async def read_and_reach(session: Session, *, patience: float = DEADLINE, max_tokens: int = MAX_TOKENS) -> str:
    """Come so far that a little of the answer was read, and read on."""
    async with session.client(timeout=patience) as client:
        try:
            reading = await session.open(client, max_tokens=max_tokens)
            await reading.read(chunks=3)
        except Exception as error:  # noqa: BLE001 - on a slow machine a short timeout may be over before the fault
            return f"{TOO_SOON}: {words(error)}"
        session.reached()
        said = await to_the_end(session, reading)
        await reading.close()
    return said


async def read_impatiently(session: Session) -> str:
    """Do the same, and wait a little only for what comes next."""
    return await read_and_reach(session, patience=BETWEEN_CHUNKS)


async def read_some(session: Session) -> str:
    """Come so far in an answer that is cut short, and read on."""
    return await read_and_reach(session, max_tokens=SOME_TOKENS)


async def read_to_the_reason(session: Session) -> str:
    """Come so far that the last token was read, read on, and ask again."""
    async with session.client() as client:
        reading = await session.open(client, "haiku")
        await reading.read(until_reason=True)
        session.reached()
        said = await to_the_end(session, reading, "haiku")
        if said != COMPLETE and END not in reading.wire:
            return TOO_SOON
        await reading.close()
        return f"{said}, then {await failure(session.open(client))}"


async def follow(session: Session) -> str:
    """Ask, ask again when the service has moved, and do what the error says."""
    async with session.client() as client:
        first = await whole_text(session, client, "haiku")
        session.reached()
        second = await failure(session.open(client))
        session.told = time.monotonic()
    moved = shim.FoundryLocal.attach()
    session.model = moved.model_id
    async with session.client(moved.base_url) as client:
        return f"{first}, then {second}, then {await whole_text(session, client, 'haiku')}"


async def ask_a_stranger(session: Session) -> str:
    """Ask what answers at the service's address and is none."""
    async with session.client(timeout=READ_TIMEOUT) as client:
        said = await failure(session.open(client))
        session.told = time.monotonic()
    return said


# What goes wrong in the program itself.


async def without_descriptors(session: Session) -> str:
    """Ask when the process has no file descriptor left, and again when it has."""
    async with session.client() as client:
        # What is imported for the first request needs descriptors, too.
        await whole_text(session, client, "haiku")
    async with session.client() as client:
        with no_descriptors():
            said = await failure(session.open(client))
        return f"{said}, then {await whole_text(session, client, 'haiku')}"


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Use up all file descriptors of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used: list[int] = []
    try:
        highest = os.dup(0)
        os.close(highest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, hard))
        with suppress(OSError):
            while True:
                used.append(os.dup(0))
        yield
    finally:
        for descriptor in used:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def many_at_once(session: Session) -> str:
    """Have two hundred streams open at the same time, and read each to its end."""
    barrier = (asyncio.Barrier if session.mode == "async" else threading.Barrier)(STREAMS_AT_ONCE)

    async def one(number: int, client: Any) -> str:
        script = TEXTS[number % len(TEXTS)]
        reading = await session.open(client, script)
        try:
            await reading.read(chunks=1)
            await awaited(_within(barrier, session.mode))
            await reading.read()
        finally:
            await reading.close()
        return COMPLETE if reading.text == SCRIPTS[script] else f"other text than {script}: {reading.text[:200]!r}"

    async with session.client() as client:
        return _one_word(await together(session, STREAMS_AT_ONCE, lambda number: one(number, client)))


def _within(barrier: Any, mode: str) -> Any:
    return asyncio.wait_for(barrier.wait(), 2 * DEADLINE) if mode == "async" else barrier.wait(2 * DEADLINE)


async def shared(session: Session) -> str:
    """Ask from several threads or tasks with the same client, many times each."""

    async def one(number: int, client: Any) -> str:
        scripts = (TEXTS[(number + turn) % len(TEXTS)] for turn in range(STREAMS_EACH))
        return _one_word([await whole_text(session, client, script) for script in scripts])

    async with session.client() as client:
        return _one_word(await together(session, THREADS, lambda number: one(number, client)))


async def together(session: Session, count: int, one: Callable[[int], Coroutine[Any, Any, str]]) -> list[str]:
    """Do something several times at once: in tasks, or in threads."""
    if session.mode == "async":
        return await asyncio.gather(*(failure(one(number)) for number in range(count)))
    said: list[str] = []
    threads = [
        threading.Thread(target=lambda number=number: said.append(run_sync(failure(one(number)))), daemon=True)
        for number in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * DEADLINE)
    return said + ["hangs"] * (count - len(said))


def _one_word(said: list[str]) -> str:
    return said[0] if len(set(said)) == 1 else "; ".join(f"{said.count(each)} {each}" for each in sorted(set(said)))


async def pause_reading(session: Session) -> str:
    """Stop reading for a while, and go on."""
    async with session.client() as client:
        reading = await session.open(client, "count")
        await reading.read(chunks=3)
        await session.sleep(PAUSE)
        return await to_the_end(session, reading, "count")


async def leave_reading(session: Session) -> str:
    """Stop reading, close the stream after a while, and ask again."""
    async with session.client() as client:
        reading = await session.open(client)
        await reading.read(chunks=3)
        await session.sleep(PAUSE)
        await reading.close()
        return await whole_text(session, client, "haiku")


async def cancelled_everywhere(session: Session, *, by_scope: bool = False) -> str:
    """Cancel a request and its stream at its first await, at its second, and so on, until it has no more."""

    async def ask(client: Any) -> str:
        reading = await session.open(client, "array")
        async with reading.stream:
            await reading.read()
        return COMPLETE if reading.text == SCRIPTS["array"] else "other text"

    # The library under openai 1.x and 2.x does not shield the end of a response from a task's cancellation: if that
    # comes there, the plain client, too, keeps the connection until it is closed itself.
    session.forgiving = not by_scope and default_family() == "httpx"
    async with session.client() as client:
        step, seen = 0, "cancelled"
        while seen == "cancelled":
            step += 1
            seen = await (_scope_cancelled_at if by_scope else _task_cancelled_at)(step, ask(client))
            if (after := await whole_text(session, client, "array")) != COMPLETE:
                return f"{after} after await {step}"
            await session.settled(client)
    if seen != COMPLETE:
        return f"{seen} at await {step}"
    return f"cancelled at every await ({'all' if step > 3 else 'none'})"


async def cancelled_by_scope(session: Session) -> str:
    """Do the same with a cancel scope, which cancels whatever is awaited while the first cancellation is handled."""
    return await cancelled_everywhere(session, by_scope=True)


async def _task_cancelled_at(step: int, asked: Coroutine[Any, Any, str]) -> str:
    task = asyncio.ensure_future(at_await(step, asked, lambda: task.cancel()))  # noqa: PLW0108 - not made yet
    try:
        return await task
    except asyncio.CancelledError:
        return "cancelled"
    except Exception as error:  # noqa: BLE001 - that would be wrong
        return words(error)


async def _scope_cancelled_at(step: int, asked: Coroutine[Any, Any, str]) -> str:
    with anyio.CancelScope() as scope:
        try:
            return await at_await(step, asked, scope.cancel)
        except Exception as error:  # noqa: BLE001 - that would be wrong
            return words(error)
    return "cancelled"


@types.coroutine
def at_await(step: int, asked: Coroutine[Any, Any, str], act: Callable[[], Any]) -> Generator[Any, Any, str]:
    """Run a coroutine, and do something when it awaits for the so manieth time."""
    sent, thrown, number = None, None, 0
    while True:
        number += 1
        try:
            waited = asked.send(sent) if thrown is None else asked.throw(thrown)
        except StopIteration as done:
            return done.value
        if number == step:
            act()
        sent = thrown = None
        try:
            sent = yield waited
        except BaseException as error:  # noqa: BLE001 - the coroutine's own business
            thrown = error


async def forked(session: Session) -> str:
    """Use a client, fork in the middle of a stream, and go on with it in both processes at once."""
    async with session.client() as client:
        kept = await session.open(client, "count")
        await whole_text(session, client, "haiku")
        await kept.read(chunks=3)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.write(writer, (await _in_child(session, client)).encode())
            os._exit(0)
        os.close(writer)
        try:
            mine = [await failure(whole_text(session, client, "haiku")) for _ in range(STREAMS_EACH)]
            mine.append(await to_the_end(session, kept, "count"))
            return f"{_one_word(mine)}, in the child {_answer_of(reader)}"
        finally:
            os.close(reader)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)  # noqa: ASYNC222 - it is dead


async def _in_child(session: Session, client: Any) -> str:
    theirs = [await failure(whole_text(session, client, "emoji")) for _ in range(STREAMS_EACH)]
    client.close()
    gc.collect()
    return _one_word(theirs)


def _answer_of(reader: int) -> str:
    ready, _, _ = select.select([reader], [], [], DEADLINE)
    return os.read(reader, 65536).decode() if ready else "hangs"


# What a program's side is made of.


async def _next(stream: Any) -> Any:
    if hasattr(stream, "__anext__"):
        return await anext(stream, None)
    return next(stream, None)


def _tap(library: Any, session: Session) -> Any:
    """Return a transport that notes what comes, below the shim."""

    class Stream(library.SyncByteStream):
        def __init__(self, inner: Any, wire: bytearray) -> None:
            self._inner, self._wire = inner, wire

        def __iter__(self) -> Iterator[bytes]:
            return map(self._noted, self._inner)

        def _noted(self, data: bytes) -> bytes:
            self._wire += data
            return data

        def close(self) -> None:
            self._inner.close()

    class Tap(library.HTTPTransport):
        def handle_request(self, request: Any) -> Any:
            request.extensions["trace"] = lambda event, _: _note_sent(session, event)
            response = super().handle_request(request)
            wire = response.extensions[WIRE] = bytearray()
            response.stream = Stream(response.stream, wire)
            return response

    return Tap(limits=_limits(library))


def _async_tap(library: Any, session: Session) -> Any:
    class Chunks:
        def __init__(self, inner: Any, wire: bytearray) -> None:
            self._inner, self._wire = aiter(inner), wire

        def __aiter__(self) -> "Chunks":
            return self

        async def __anext__(self) -> bytes:
            data = await anext(self._inner)
            self._wire += data
            return data

    class Stream(library.AsyncByteStream):
        def __init__(self, inner: Any, wire: bytearray) -> None:
            self._inner, self._wire = inner, wire

        def __aiter__(self) -> Chunks:
            return Chunks(self._inner, self._wire)

        async def aclose(self) -> None:
            await self._inner.aclose()

    class Tap(library.AsyncHTTPTransport):
        async def handle_async_request(self, request: Any) -> Any:
            async def trace(event: str, _: Any) -> None:
                _note_sent(session, event)

            request.extensions["trace"] = trace
            response = await super().handle_async_request(request)
            wire = response.extensions[WIRE] = bytearray()
            response.stream = Stream(response.stream, wire)
            return response

    return Tap(limits=_limits(library))


def _limits(library: Any) -> Any:
    """Return openai's own limits of connections."""
    own = openai.DEFAULT_CONNECTION_LIMITS
    return library.Limits(max_connections=own.max_connections, max_keepalive_connections=own.max_keepalive_connections)


def _note_sent(session: Session, event: str) -> None:
    if event == _REQUEST_SENT and session.on_sent:
        said, session.on_sent = session.on_sent, None
        said()


def play(fault: ServiceFault, session: Session) -> Outcome:
    """Play the program's side of a fault and see what is left of it."""
    if fault.backend == "trio":
        # Where openai asks for the platform; trio keeps it for a while.
        anyio.run(anyio.to_thread.run_sync, int, backend="trio")
    before = Holdings.now()
    if session.mode == "sync":
        seen, leaks = run_sync(_program(fault, session)), ()
    else:
        seen, leaks = anyio.run(_async_program, fault, session, backend=fault.backend)
    gc.collect()
    return Outcome(
        fault.name,
        session.major,
        session.mode,
        fault.expected(session.major),
        seen,
        session.told - session.since,
        fault.deadline,
        leaks or before.leaks(),
    )


async def _program(fault: ServiceFault, session: Session) -> str:
    try:
        said = await fault.play(session)
    except Exception as error:  # noqa: BLE001 - it is what came of the fault
        said = f"{words(error)}: {error}"
    session.told = session.told or time.monotonic()
    return said


async def _async_program(fault: ServiceFault, session: Session) -> tuple[str, tuple[str, ...]]:
    before = Holdings.now()
    said = await _program(fault, session)
    if fault.backend != "asyncio":
        return said, ()
    # openai asks for the platform in a thread of the loop's own pool.
    await asyncio.get_running_loop().shutdown_default_executor()
    return said, await before.leaks_async()


def always(text: str) -> Callable[[str], str]:
    """Expect the same under each major."""
    return lambda _: text


def mid_stream(openais: str, librarys: str) -> Callable[[str], str]:
    """Expect what the major raises in the middle of a stream: 1.x and 2.x hand on what the HTTP library raises."""
    return lambda major: f"{librarys if major in '12' else openais} after all that came"


REMEDIED = "APIConnectionError that says what to do"
SERVICE_FAULTS: dict[str, ServiceFault] = {
    fault.name: fault
    for fault in (
        ServiceFault("two hundred streams at once", many_at_once, always(COMPLETE), deadline=120, apart=True),
        ServiceFault("one client, 8 threads or tasks", shared, always(COMPLETE), deadline=60),
        ServiceFault("reading stops and goes on", pause_reading, always(COMPLETE)),
        ServiceFault("reading stops, stream closed", leave_reading, always(COMPLETE)),
        ServiceFault(
            "out of file descriptors",
            without_descriptors,
            always(f"APIConnectionError that names the files, then {COMPLETE}"),
        ),
        ServiceFault(
            "cancelled at every await",
            cancelled_everywhere,
            always("cancelled at every await (all)"),
            modes=("async",),
            deadline=60,
        ),
        ServiceFault(
            "cancel scope at every await",
            cancelled_by_scope,
            always("cancelled at every await (all)"),
            modes=("async",),
            deadline=60,
        ),
        ServiceFault(
            "the same under trio",
            cancelled_by_scope,
            always("cancelled at every await (all)"),
            modes=("async",),
            deadline=60,
            backend="trio",
        ),
        ServiceFault("fork", forked, always(f"{COMPLETE}, in the child {COMPLETE}"), modes=("sync",)),
        ServiceFault(
            "stopped before the first byte",
            ask_impatiently,
            always("APITimeoutError"),
            opening="freeze",
            deeds=("leave",),
            closing="thaw",
        ),
        ServiceFault(
            "stopped in the middle",
            read_impatiently,
            mid_stream("APITimeoutError", "httpx.ReadTimeout"),
            deeds=("leave",),
            closing="thaw",
            pulsed=True,
        ),
        ServiceFault("stopped and continued", read_some, always(COMPLETE), deeds=("thaw_later",), pulsed=True),
        ServiceFault(
            "killed before the first byte", ask_and_reach, always(REMEDIED), opening="freeze", deeds=("kill",)
        ),
        ServiceFault(
            "killed in the middle",
            read_and_reach,
            mid_stream("APIConnectionError", "httpx.RemoteProtocolError"),
            deeds=("kill",),
            pulsed=True,
        ),
        ServiceFault(
            "killed behind the last token",
            read_to_the_reason,
            always(f"{COMPLETE}, then {REMEDIED}"),
            deeds=("kill_later",),
        ),
        ServiceFault(
            "restarted on another port",
            follow,
            always(f"{COMPLETE}, then {REMEDIED}, then {COMPLETE}"),
            deeds=("move",),
        ),
        ServiceFault(
            "port taken by a web page",
            ask_a_stranger,
            always("InternalServerError that says what to do"),
            opening="page",
        ),
        ServiceFault("port taken by a greeting", ask_a_stranger, always("APIConnectionError"), opening="greeting"),
        ServiceFault("port taken by silence", ask_a_stranger, always("APITimeoutError"), opening="silence"),
    )
}
