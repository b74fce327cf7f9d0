"""The ledger as code sees it: where runs, steps and dedup begin, and what drives their calls on a thread or a task."""

import asyncio
import contextlib
import inspect
import os
import socket
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast, overload

from ._context import Lease
from ._dedup import DedupLease
from ._execute import Reconcile
from ._protocol import Broken, Call, Exchange, OnLost, Pause, Protocol, Resolution, Terms, Wanted
from ._results import Encode, encode
from ._run import Run
from ._steps import StepDecorator
from ._transport import AsyncTransport, Connections, Transport

T = TypeVar("T")

_ledgers: "weakref.WeakSet[Ledger]" = weakref.WeakSet()


def _renew_all() -> None:
    """In a child that was just forked."""
    for ledger in list(_ledgers):
        ledger.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)


class Ledger:
    """A ledger, at a server. `url` and `token` default to HOOKONCE_URL (http://127.0.0.1:8081) and HOOKONCE_TOKEN.

    A call that gets no answer, or 429, 502, 503 or 504, is sent again as it was, with backoff, for `give_up` seconds; then `Unavailable`.

    One may be made before processes are forked (Celery, gunicorn --preload, RQ, multiprocessing): each child has connections and an owner
    of its own. `owner` is shown where somebody looks who has a step; in a child its process id stands behind it. `encode` makes JSON of
    results that are none (`hookonce.encode`). `emit_max` is as the server's `ledger.emit_max`. `transport` and `async_transport` are
    httpx's, or functions that make one.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        owner: str | None = None,
        give_up: float = 60.0,
        encode: Encode = encode,
        emit_max: int = 32,
        transport: Transport | None = None,
        async_transport: AsyncTransport | None = None,
    ) -> None:
        url = url or os.environ.get("HOOKONCE_URL") or "http://127.0.0.1:8081"
        token = token or os.environ.get("HOOKONCE_TOKEN") or ""
        self.encode, self.emit_max = encode, emit_max
        self._owner = owner
        self.protocol = Protocol(owner or _here(), give_up)
        self._connections = Connections(url, token, transport, async_transport)
        self._kept: set[asyncio.Future[Any]] = set()
        _ledgers.add(self)

    def renew(self) -> None:
        """What a forked process does by itself: connections, locks and an owner of its own. For a fork that Python is not told of."""
        self.protocol.renew(f"{self._owner}:{os.getpid()}"[-255:] if self._owner else _here())
        self._connections.renew()
        self._kept = set()

    def close(self) -> None:
        """Closes the connections of threads. The ledger may be used again, and then opens new ones."""
        self._connections.close()

    async def aclose(self) -> None:
        """Waits for detached work of this loop, and closes the connections."""
        while mine := [task for task in self._kept if task.get_loop() is asyncio.get_running_loop()]:
            await asyncio.wait(mine)
        await self._connections.aclose()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> "Ledger":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def run(self, name: str) -> Run:
        """A run by its name; as a context manager it is the one that decorated steps belong to."""
        return Run(self, name)

    def step(
        self,
        name: str | None = None,
        *,
        run: str | None = None,
        lease: float = 30.0,
        on_lost: OnLost = "hold",
        wait: float = 30.0,
        input: Callable[..., Any] | None = None,
        reconcile: Reconcile | None = None,
        detach: bool = False,
    ) -> StepDecorator:
        """Makes a function a step. It gets a `StepContext` before its own arguments; its callers give the arguments alone.

        `name` and `run` are formatted with the arguments by name: `"charge:{order.id}"`. Without `name` it is the function's, with a digest
        of its arguments. Without `run`, the run is the one of the enclosing `with ledger.run(…)`.

        A step that comes again with other arguments is refused (`InputChanged`). All count that are JSON, or that the ledger's hook makes
        JSON of; `input`, called with the arguments, says what counts instead.
        """
        return StepDecorator(self, name, run, Terms(lease, on_lost, wait), input, reconcile, detach)

    @overload
    def dedup(self, scope: str, key: str, *, window: str | float) -> bool: ...
    @overload
    def dedup(self, scope: str, key: str, *, window: str | float, lease: float) -> DedupLease: ...
    def dedup(self, scope: str, key: str, *, window: str | float, lease: float | None = None) -> bool | DedupLease:
        """Is this key new in the scope? `window` is how long it is remembered: "24h", or seconds.

        Without a lease the answer marks the key, and a crash before the work is done loses it. With one, use it as `with` and handle the
        key where `.first` is true: the lease is extended while the block runs, the key is done when it ends, and free at once where it
        raises.
        """
        grant = self.drive(self.protocol.mark(scope, key, window, lease))
        return grant is not None if lease is None else DedupLease(self, key, grant, self._key_lease(key, grant, lease))

    @overload
    async def adedup(self, scope: str, key: str, *, window: str | float) -> bool: ...
    @overload
    async def adedup(self, scope: str, key: str, *, window: str | float, lease: float) -> DedupLease: ...
    async def adedup(self, scope: str, key: str, *, window: str | float, lease: float | None = None) -> bool | DedupLease:
        """The same for asyncio: `async with await ledger.adedup(…) as mine`."""
        grant = await self.adrive(self.protocol.mark(scope, key, window, lease))
        return grant is not None if lease is None else DedupLease(self, key, grant, self._key_lease(key, grant, lease))

    def _key_lease(self, key: str, grant: Any, seconds: float) -> Lease:
        since = self.protocol.clock() if grant is None else grant.claimed_at
        return Lease(f"key {key!r}", seconds, since, self.protocol.clock)

    def drive(
        self, exchange: Exchange[T], reconcile: Reconcile | None = None, sleep: Callable[[float], object] = time.sleep
    ) -> T:
        """Runs one exchange on this thread."""
        given: Any = None
        while True:
            try:
                wanted: Wanted = exchange.send(given)
            except StopIteration as end:
                return cast(T, end.value)
            given = None
            if isinstance(wanted, Call):
                self._renew_if_forked()
                given = self._connections.send(wanted)
            elif isinstance(wanted, Pause):
                sleep(wanted.seconds)
            elif isinstance(wanted, Broken):
                self._connections.drop(wanted.lane)
            elif reconcile is not None:
                given = reconcile(wanted)
                if inspect.isawaitable(given):
                    raise TypeError("an async reconcile hook belongs to an async step")

    async def adrive(self, exchange: Exchange[T], reconcile: Reconcile | None = None) -> T:
        """Runs one exchange on this task."""
        given: Any = None
        while True:
            try:
                wanted: Wanted = exchange.send(given)
            except StopIteration as end:
                return cast(T, end.value)
            given = None
            if isinstance(wanted, Call):
                self._renew_if_forked()
                given = await self._connections.asend(wanted)
            elif isinstance(wanted, Pause):
                await asyncio.sleep(wanted.seconds)
            elif isinstance(wanted, Broken):
                self._connections.drop(wanted.lane)
            elif reconcile is not None:
                given = reconcile(wanted)
                if inspect.isawaitable(given):
                    given = await cast(Awaitable[Resolution | None], given)

    def _renew_if_forked(self) -> None:
        if self._connections.is_of_another_process:
            self.renew()

    def keep(self, task: "asyncio.Future[Any]") -> None:
        """Until it has ended: a loop by itself forgets tasks that nobody waits for."""
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)

    def aside(self, make: Callable[[], Exchange[Any]]) -> None:
        """Runs an exchange where this task or thread can't wait for it: its loop is gone, or the coroutine is being closed."""

        def run() -> None:
            with contextlib.suppress(Exception):
                self.drive(make())

        try:
            threading.Thread(target=run, name="hookonce aside").start()
        except RuntimeError:
            # The interpreter ends, and starts no thread.
            run()


def _here() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"[-255:]


