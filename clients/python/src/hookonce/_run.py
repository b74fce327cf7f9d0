"""A run: a set of named steps that are executed once each."""

import contextvars
import functools
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from ._calls import OCCURRENCES_MAX, Occurrences, Repeat, call_step, canonical_json, occurrence_of, seconds_of
from ._errors import InputChanged, RepeatRefused, ResultNotKept, StepFailed, WaitTimedOut
from ._execute import (
    AnyWork,
    AsyncWork,
    Claiming,
    Reconcile,
    Work,
    aclaim,
    ahold,
    claim,
    hold,
    hold_detached,
    refuse_async,
    refuse_outside_asyncio,
)
from ._outcome import Outcome
from ._protocol import Ended, Grant, OnLost, Resolution, StepState, Terms, fields, input_hash
from ._results import as_json, kept
from ._wait import Arrived, arrived, wait_step

if TYPE_CHECKING:
    from ._ledger import Ledger

P = ParamSpec("P")
T = TypeVar("T")

_entered: contextvars.ContextVar[tuple["Run", ...]] = contextvars.ContextVar("hookonce_runs", default=())


def current_run() -> "Run | None":
    """The run of the innermost `with ledger.run(…)` around this code."""
    return entered[-1] if (entered := _entered.get()) else None


class Run:
    """A run: a set of named steps that are executed once each. As a context manager it is the one that decorated steps belong to."""

    def __init__(self, ledger: "Ledger", name: str) -> None:
        self.ledger = ledger
        self.name = name
        self._known: dict[str, StepState] = {}
        self._occurrences = Occurrences()

    def __enter__(self) -> "Run":
        _entered.set((*_entered.get(), self))
        return self

    def __exit__(self, *_: object) -> None:
        _entered.set(_entered.get()[:-1])

    def bind(self, function: Callable[P, T]) -> Callable[P, T]:
        """The function within this run, for threads, which don't know of the `with` around them: `pool.map(run.bind(charge), orders)`."""

        @functools.wraps(function)
        def within(*arguments: P.args, **named: P.kwargs) -> T:
            with self:
                return function(*arguments, **named)

        return within

    def resume(self) -> dict[str, StepState]:
        """All steps as they are. Those that have ended are then skipped without asking again."""
        return self._remember(self.ledger.drive(self.ledger.protocol.resume(self.name)))

    async def aresume(self) -> dict[str, StepState]:
        """The same for asyncio."""
        return self._remember(await self.ledger.adrive(self.ledger.protocol.resume(self.name)))

    def execute(
        self,
        step: str,
        work: Work[T],
        *,
        lease: float = 30.0,
        on_lost: OnLost = "hold",
        wait: float = 30.0,
        input: Any = None,
        reconcile: Reconcile | None = None,
        detach: bool = False,
    ) -> T:
        """Executes the work where nobody has, and gives its result, as JSON has it, the first time as every time after.

        Raised by the work, `StepFailed` ends the step for good, and `NotExecuted` gives it back. Any other error leaves open what happened,
        and so does a caller that is stopped meanwhile (Ctrl-C, a cancelled task): the step is unknown at once, or under `on_lost="retry"`
        the next one's. With `detach` the work goes on without its caller, and its result is kept.
        """
        done = self.outcome(
            step, work, lease=lease, on_lost=on_lost, wait=wait, input=input, reconcile=reconcile, detach=detach
        )
        return result_of(step, done)

    @overload
    async def aexecute(
        self,
        step: str,
        work: AsyncWork[T],
        *,
        lease: float = ...,
        on_lost: OnLost = ...,
        wait: float = ...,
        input: Any = ...,
        reconcile: Reconcile | None = ...,
        detach: bool = ...,
    ) -> T: ...
    @overload
    async def aexecute(
        self,
        step: str,
        work: Work[T],
        *,
        lease: float = ...,
        on_lost: OnLost = ...,
        wait: float = ...,
        input: Any = ...,
        reconcile: Reconcile | None = ...,
        detach: bool = ...,
    ) -> T: ...
    async def aexecute(
        self,
        step: str,
        work: AnyWork[T],
        *,
        lease: float = 30.0,
        on_lost: OnLost = "hold",
        wait: float = 30.0,
        input: Any = None,
        reconcile: Reconcile | None = None,
        detach: bool = False,
    ) -> T:
        """The same for asyncio. Work that has lost its lease is cancelled.

        A plain function runs on a thread. Since that can't be stopped, it goes on without its caller in any case.
        """
        done: Outcome[Any] = await self.aoutcome(
            step, work, lease=lease, on_lost=on_lost, wait=wait, input=input, reconcile=reconcile, detach=detach
        )
        return cast(T, result_of(step, done))

    def outcome(
        self,
        step: str,
        work: Work[T],
        *,
        lease: float = 30.0,
        on_lost: OnLost = "hold",
        wait: float = 30.0,
        input: Any = None,
        reconcile: Reconcile | None = None,
        detach: bool = False,
    ) -> Outcome[T]:
        """As `execute`, and tells whether this was the first execution or a replay, of when, and of whom."""
        terms = Terms(lease, on_lost, wait, self._input_hash(input))
        return well_ended(self.perform(step, work, terms, reconcile, detach))

    @overload
    async def aoutcome(
        self,
        step: str,
        work: AsyncWork[T],
        *,
        lease: float = ...,
        on_lost: OnLost = ...,
        wait: float = ...,
        input: Any = ...,
        reconcile: Reconcile | None = ...,
        detach: bool = ...,
    ) -> Outcome[T]: ...
    @overload
    async def aoutcome(
        self,
        step: str,
        work: Work[T],
        *,
        lease: float = ...,
        on_lost: OnLost = ...,
        wait: float = ...,
        input: Any = ...,
        reconcile: Reconcile | None = ...,
        detach: bool = ...,
    ) -> Outcome[T]: ...
    async def aoutcome(
        self,
        step: str,
        work: AnyWork[T],
        *,
        lease: float = 30.0,
        on_lost: OnLost = "hold",
        wait: float = 30.0,
        input: Any = None,
        reconcile: Reconcile | None = None,
        detach: bool = False,
    ) -> Outcome[T]:
        """The same for asyncio."""
        terms = Terms(lease, on_lost, wait, self._input_hash(input))
        return well_ended(await self.aperform(step, work, terms, reconcile, detach))

    def call(
        self,
        tool: str,
        arguments: Any,
        work: Work[T],
        *,
        repeat: Repeat = "once",
        after: str | float | timedelta | None = None,
        lease: float = 30.0,
        on_lost: OnLost = "hold",
        wait: float = 30.0,
        reconcile: Reconcile | None = None,
        detach: bool = False,
    ) -> Outcome[T]:
        """Executes a tool's call: the step is the tool with these arguments, whatever else made the agent call it again.

        `repeat` says what a call like an earlier one is: `"once"`, answered with the earlier one's result; `"ask"`, refused (`RepeatRefused`),
        so that the agent or a person decides; `"numbered"`, the n-th call like it within this run object, so that the same plan meets the
        same steps after a restart. `after="10m"` answers with a result that is younger than that, by the ledger's clock, and executes else.
        """
        terms = Terms(lease, on_lost, wait)
        calls = _Calls(self, tool, arguments, repeat, after)
        refuse_async(work)
        with calls:
            while True:
                done = self.perform(calls.step, work, terms, reconcile, detach, calls.skips_asking)
                if calls.answers(done):
                    return done

    @overload
    async def acall(
        self,
        tool: str,
        arguments: Any,
        work: AsyncWork[T],
        *,
        repeat: Repeat = ...,
        after: str | float | timedelta | None = ...,
        lease: float = ...,
        on_lost: OnLost = ...,
        wait: float = ...,
        reconcile: Reconcile | None = ...,
        detach: bool = ...,
    ) -> Outcome[T]: ...
    @overload
    async def acall(
        self,
        tool: str,
        arguments: Any,
        work: Work[T],
        *,
        repeat: Repeat = ...,
        after: str | float | timedelta | None = ...,
        lease: float = ...,
        on_lost: OnLost = ...,
        wait: float = ...,
        reconcile: Reconcile | None = ...,
        detach: bool = ...,
    ) -> Outcome[T]: ...
    async def acall(
        self,
        tool: str,
        arguments: Any,
        work: AnyWork[T],
        *,
        repeat: Repeat = "once",
        after: str | float | timedelta | None = None,
        lease: float = 30.0,
        on_lost: OnLost = "hold",
        wait: float = 30.0,
        reconcile: Reconcile | None = None,
        detach: bool = False,
    ) -> Outcome[T]:
        """The same for asyncio."""
        terms = Terms(lease, on_lost, wait)
        calls = _Calls(self, tool, arguments, repeat, after)
        refuse_outside_asyncio()
        with calls:
            while True:
                done = await self.aperform(calls.step, work, terms, reconcile, detach, calls.skips_asking)
                if calls.answers(done):
                    return done

    def wait_for(
        self,
        source: str,
        *,
        type: str | None = None,
        key: str | None = None,
        match: tuple[str, Any] | None = None,
        timeout: float,
        wait: float | None = None,
        step: str | None = None,
    ) -> Outcome[Arrived]:
        """The event of this source that has the type, the key, or a value at a place in its body (`("body:/data/object/id", "in_1")`),
        all that are given.

        One that came before counts too, within its retention. The step ends with the event, once, and whoever asks again gets the same,
        after any restart. After `timeout` seconds since the first call the step has failed: `WaitTimedOut`. `wait` is how long this call
        waits (as long as it takes): `StepWaiting` says that it goes on, and any process may ask again. `step` is the step's name, by
        default one that follows from the event.
        """
        name, event = self._wait(source, type, key, match, step)
        ended = self._known_end(name, Terms())
        if ended is None:
            patience = timeout + 60.0 if wait is None else wait
            ended = self.ledger.drive(self.ledger.protocol.wait_for(self.name, name, event, timeout, patience))
        return _arrived(ended)

    async def await_for(
        self,
        source: str,
        *,
        type: str | None = None,
        key: str | None = None,
        match: tuple[str, Any] | None = None,
        timeout: float,
        wait: float | None = None,
        step: str | None = None,
    ) -> Outcome[Arrived]:
        """The same for asyncio."""
        refuse_outside_asyncio()
        name, event = self._wait(source, type, key, match, step)
        ended = self._known_end(name, Terms())
        if ended is None:
            patience = timeout + 60.0 if wait is None else wait
            ended = await self.ledger.adrive(self.ledger.protocol.wait_for(self.name, name, event, timeout, patience))
        return _arrived(ended)

    def claim(
        self,
        step: str,
        *,
        claim_id: str | None = None,
        lease: float = 30.0,
        on_lost: OnLost = "hold",
        wait: float = 0.0,
        input: Any = None,
    ) -> Grant | Ended:
        """The single calls, for who executes in some other way: nobody beats for a claim."""
        terms = Terms(lease, on_lost, wait, self._input_hash(input))
        return self.ledger.drive(self.ledger.protocol.claim(self.name, step, terms, claim_id))

    def heartbeat(self, grant: Grant, lease: float = 30.0) -> None:
        """Extends the lease to so many seconds from now."""
        self.ledger.drive(self.ledger.protocol.heartbeat(self.name, grant, lease))

    def complete(self, grant: Grant, result: Any = None) -> None:
        """The step is done. A result that can't be kept is recorded as such."""
        plain, not_kept = kept(result, self.ledger.encode)
        self.ledger.drive(self.ledger.protocol.complete(self.name, grant, None if not_kept else plain, [], not_kept))

    def fail(self, grant: Grant, error: Any) -> None:
        """The step failed for good."""
        self.ledger.drive(self.ledger.protocol.fail(self.name, grant, as_json(error, self.ledger.encode), []))

    def release(self, grant: Grant) -> None:
        """Nothing was executed: the step is the next one's."""
        self.ledger.drive(self.ledger.protocol.release(self.name, grant))

    def abandon(self, grant: Grant, error: Any = None) -> None:
        """This holder stops, and does not know what came of it: the step is unknown at once, or under `on_lost="retry"` the next one's."""
        self.ledger.drive(self.ledger.protocol.abandon(self.name, grant, as_json(error, self.ledger.encode)))

    def resolve(self, step: str, fence: int, outcome: Resolution) -> None:
        """Ends the doubt about an unknown step."""
        self.ledger.drive(self.ledger.protocol.resolve(self.name, step, fence, outcome))

    def perform(
        self,
        step: str,
        work: Work[T],
        terms: Terms,
        reconcile: Reconcile | None,
        detach: bool,
        skips_asking: bool = True,
    ) -> Outcome[T]:
        """What `outcome` and `call` do once their arguments are read."""
        refuse_async(work)
        begun: Grant | Ended | None = self._known_end(step, terms) if skips_asking else None
        if begun is None:
            begun = claim(Claiming(self, step, terms, reconcile), self, reconcile)
        if isinstance(begun, Ended):
            return begun.outcome()
        return (hold_detached if detach else hold)(self, begun, work, terms)

    async def aperform(
        self,
        step: str,
        work: AnyWork[T],
        terms: Terms,
        reconcile: Reconcile | None,
        detach: bool,
        skips_asking: bool = True,
    ) -> Outcome[T]:
        """The same for asyncio."""
        refuse_outside_asyncio()
        begun: Grant | Ended | None = self._known_end(step, terms) if skips_asking else None
        if begun is None:
            begun = await aclaim(Claiming(self, step, terms, reconcile), self, reconcile)
        if isinstance(begun, Ended):
            return begun.outcome()
        return await ahold(self, begun, work, terms, detach)

    def _input_hash(self, input: Any) -> str | None:
        return None if input is None else input_hash(as_json(input, self.ledger.encode))

    def _remember(self, found: dict[str, StepState]) -> dict[str, StepState]:
        self._known = {name: state for name, state in found.items() if state.status in ("done", "failed")}
        return found

    def _known_end(self, step: str, terms: Terms) -> Ended | None:
        state = self._known.get(step)
        if state is None:
            return None
        if state.input_hash and terms.input_hash and state.input_hash != terms.input_hash:
            raise InputChanged(f"step {step!r} was claimed before with another input")
        return Ended(state.status, state.result, state.ended_at, state.owner, None, state.result_not_kept)

    def _wait(
        self, source: str, type: str | None, key: str | None, match: tuple[str, Any] | None, step: str | None
    ) -> tuple[str, Mapping[str, Any]]:
        if type is None and key is None and match is None:
            raise ValueError("wait_for: give `type`, `key` or `match`")
        placed = None
        if match is not None:
            place, value = match
            placed = {"place": place, "value": value if isinstance(value, str) else canonical_json(value)}
        event = fields(type=type, key=key, match=placed)
        return step or wait_step(source, event), {"source": source, **event}

    @property
    def occurrences(self) -> Occurrences:
        """How often each call was made here."""
        return self._occurrences


class _Calls:
    """The steps that one call may be, in turn. As `with`: a call that came to no end has no number of its own."""

    def __init__(self, run: Run, tool: str, arguments: Any, repeat: Repeat, after: str | float | timedelta | None) -> None:
        if repeat not in ("once", "ask", "numbered"):
            raise ValueError(f'repeat: {repeat!r} is none of "once", "ask", "numbered"')
        if after is not None and repeat != "once":
            raise ValueError("repeat and after: give one of them")
        self._tool, self._arguments, self._repeat = tool, arguments, repeat
        self._after = None if after is None else seconds_of(after)
        self._first = call_step(tool, arguments, hook=run.ledger.encode)
        self._occurrences = run.occurrences

    def __enter__(self) -> None:
        self._number = self._occurrences.take(self._first)
        self._at = 1
        if self._repeat == "numbered":
            self._at = self._number
        elif self._after is not None:
            self._at = self._occurrences.first_left(self._first)

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is not None and not issubclass(kind, (StepFailed, RepeatRefused)):
            self._occurrences.give_back(self._first, self._number)

    @property
    def step(self) -> str:
        return occurrence_of(self._first, self._at)

    @property
    def skips_asking(self) -> bool:
        """How old a result is, only the ledger can say."""
        return self._after is None

    def answers(self, done: Outcome[Any]) -> bool:
        """Is this what the caller gets, and not the end of an earlier call? Raises what the caller gets instead."""
        if done.replayed_at is not None:
            if self._repeat == "ask" and done.status == "done":
                raise RepeatRefused(self._tool, self._arguments, done)
            if self._after is not None and self._is_over(done, self._after):
                self._occurrences.is_over(self._first, self._at)
                self._at += 1
                if self._at > OCCURRENCES_MAX:
                    raise ValueError(f"more than {OCCURRENCES_MAX} calls like this one in the run")
                return False
        well_ended(done)
        return True

    def _is_over(self, done: Outcome[Any], after: float) -> bool:
        if done.ended_at is None or done.replayed_at is None:
            raise RuntimeError("the server does not say when the call was done: `after` needs a newer one")
        return (done.replayed_at - done.ended_at).total_seconds() >= after


def well_ended(done: Outcome[T]) -> Outcome[T]:
    """Raises what the work raised that failed."""
    if done.status == "failed":
        raise StepFailed(done.result, done)
    return done


def result_of(step: str, done: Outcome[T]) -> T:
    """What callers get who ask for no more."""
    well_ended(done)
    if done.result_not_kept is not None and done.replayed_at is not None:
        raise ResultNotKept(step, done.result_not_kept.reason, done.result_not_kept.detail, done)
    return done.result


def _arrived(ended: Ended) -> Outcome[Arrived]:
    done = ended.outcome()
    if done.status == "failed":
        raise WaitTimedOut(done.result, done)
    return cast("Outcome[Arrived]", arrived(done))
