"""What the adapters have in common: a framework's function, whose calls become tool calls of a run."""

import functools
import importlib
import inspect
import json
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypedDict, TypeVar

from ._calls import Repeat
from ._context import StepContext
from ._errors import HookonceError, NotExecuted, RepeatRefused, ResultNotKept
from ._execute import Reconcile, is_async
from ._ledger import Ledger
from ._outcome import Outcome
from ._protocol import OnLost
from ._results import as_json
from ._run import Run, current_run
from ._steps import format_name

F = TypeVar("F", bound=Callable[..., Any])


class OnceTerms(TypedDict, total=False):
    """Under what terms a function's calls are executed once. All may be left out."""

    run: str | Callable[..., str]
    """The run: formatted with the arguments by name, `"order {order_id}"`, or a function of them. Default: that of the enclosing
    `with ledger.run(…)`, else the one that the framework itself names."""
    tool: str
    """The tool's name; the function's."""
    repeat: Repeat
    """What a call like an earlier one is: `"once"`, `"ask"` or `"numbered"`; see `Run.call`."""
    after: str | float | timedelta
    """A result that is older than this is executed again."""
    input: Callable[..., Any]
    """Called with the arguments: what of them makes it the same call. Default: all that are JSON."""
    lease: float
    """Seconds, extended as long as the function runs (30)."""
    on_lost: OnLost
    """`"hold"`: a call whose process died is not executed again before somebody, or `reconcile`, says what came of it. `"retry"`: the next
    one executes, with the same `current_step().effect_key`."""
    wait: float
    """Seconds to wait for another that executes the same call (30)."""
    reconcile: Reconcile
    """Asked what became of a call whose process died."""
    detach: bool
    """It goes on without its caller."""


def needs(library: str, extra: str) -> None:
    """`ImportError` says how to get the library."""
    try:
        importlib.import_module(library)
    except ImportError as error:
        raise ImportError(f"hookonce.{extra} needs {library}, which is not installed: pip install 'hookonce[{extra}]'") from error


def in_words(done: Outcome[Any]) -> str:
    """A replay as models read it: that it is one, and then the result."""
    if done.result is None:
        return done.message
    result = done.result if isinstance(done.result, str) else json.dumps(done.result, ensure_ascii=False)
    return f"{done.message}\n{result}"


@dataclass(frozen=True)
class Framework:
    """What differs between them."""

    run: Callable[[], str | None] = lambda: None
    """The run that the framework's own surroundings name, if they do."""
    contexts: tuple[type, ...] = ()
    """Types of what a framework passes to a function beside its arguments."""
    is_hidden: Callable[[Any], bool] = lambda hint: False
    """Is a parameter with this type not of the caller's?"""
    not_executed: tuple[type[BaseException], ...] = ()
    """What a function raises to be called again later: the step is given back."""
    again: tuple[type, ...] = ()
    """What a function returns to be called again later."""
    told: Callable[[Outcome[Any]], Any] = lambda done: done.result
    """What the framework gets of a replay."""
    refused: Callable[[RepeatRefused], Any] | None = None
    """What it gets of a repeat that was refused; by default the error. Those that have it tell a model what was not kept, too."""
    error: Callable[[str], Exception] | None = None
    """The framework's kind of error whose text a model gets to see; by default ours."""


class _Again(Exception):
    """The function returned that it is to be called again."""

    def __init__(self, value: Any) -> None:
        super().__init__(repr(value))
        self.value = value


@dataclass(frozen=True)
class Once:
    """The terms under which a function's calls are executed once, as a decorator."""

    framework: Framework
    ledger: Ledger
    terms: OnceTerms = field(default_factory=OnceTerms)

    def __post_init__(self) -> None:
        if unknown := set(self.terms) - set(OnceTerms.__annotations__):
            raise TypeError(f"once: {', '.join(sorted(unknown))}: no such term; there are {', '.join(OnceTerms.__annotations__)}")

    def __call__(self, function: F) -> F:
        call = _Function(self, function)
        if is_async(function):

            @functools.wraps(function)
            async def acalled(*arguments: Any, **named: Any) -> Any:
                run, counted = call.placed(arguments, named)

                async def work(_: StepContext) -> Any:
                    with call.given_back():
                        return call.checked(await function(*arguments, **named))

                try:
                    return call.told(await run.acall(call.tool, counted, work, **call.options))
                except HookonceError as error:
                    return call.instead(error)

            return typing.cast(F, acalled)

        @functools.wraps(function)
        def called(*arguments: Any, **named: Any) -> Any:
            run, counted = call.placed(arguments, named)

            def work(_: StepContext) -> Any:
                with call.given_back():
                    return call.checked(function(*arguments, **named))

            try:
                return call.told(run.call(call.tool, counted, work, **call.options))
            except HookonceError as error:
                return call.instead(error)

        return typing.cast(F, called)


class _GivenBack:
    """What the framework raises to call again is an execution that was none."""

    def __init__(self, kinds: tuple[type[BaseException], ...]) -> None:
        self._kinds = (*kinds, _Again)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, self._kinds):
            raise NotExecuted(f"{type(error).__name__}: {error}") from error


class _Function:
    """One function under its terms."""

    def __init__(self, once: Once, function: Callable[..., Any]) -> None:
        self._framework, self._ledger, self._terms = once.framework, once.ledger, once.terms
        self._signature = inspect.signature(function)
        self._hidden = _hidden(function, self._framework.is_hidden)
        self.tool = self._terms.get("tool") or str(getattr(function, "__name__", type(function).__name__))
        self.options: dict[str, Any] = {
            name: value for name, value in self._terms.items() if name not in ("run", "tool", "input")
        }

    def placed(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Run, Any]:
        """The run of a call, and what makes it the same call."""
        bound = self._signature.bind(*arguments, **named)
        bound.apply_defaults()
        given = {name: value for name, value in bound.arguments.items() if name not in self._hidden}
        if choose := self._terms.get("input"):
            counted = choose(*arguments, **named)
        else:
            counted = self._jsonable(given)
        return self._run_of(bound.arguments), counted

    def given_back(self) -> _GivenBack:
        """Around the function."""
        return _GivenBack(self._framework.not_executed)

    def checked(self, result: Any) -> Any:
        """The result, unless it says that there is none yet."""
        if isinstance(result, self._framework.again):
            raise _Again(result)
        return result

    def told(self, done: Outcome[Any]) -> Any:
        """What the framework gets of an outcome."""
        if done.replayed_at is None:
            return done.result
        if done.result_not_kept is not None and self._framework.refused is None:
            raise ResultNotKept(self.tool, done.result_not_kept.reason, done.result_not_kept.detail, done)
        return self._framework.told(done)

    def instead(self, error: HookonceError) -> Any:
        """The framework's own error, which the work has raised; or words for the model."""
        framework, cause = self._framework, error.__cause__
        if isinstance(error, RepeatRefused) and framework.refused is not None:
            return framework.refused(error)
        if isinstance(error, NotExecuted) and isinstance(cause, _Again):
            return cause.value
        if isinstance(error, NotExecuted) and isinstance(cause, framework.not_executed):
            raise cause
        if framework.error is not None:
            raise framework.error(str(error)) from error
        raise error

    def _jsonable(self, given: Mapping[str, Any]) -> dict[str, Any]:
        found = {}
        for name, value in given.items():
            if isinstance(value, self._framework.contexts) or name in ("self", "cls"):
                continue
            try:
                found[name] = as_json(value, self._ledger.encode)
            except Exception:
                # A session, a client: not what the call is about.
                continue
        return found

    def _run_of(self, arguments: Mapping[str, Any]) -> Run:
        run = self._terms.get("run")
        if callable(run):
            return self._ledger.run(run(**arguments))
        if run is not None:
            return self._ledger.run(format_name(run, arguments))
        around = current_run()
        if around is not None:
            return around
        found = self._framework.run()
        if found is None:
            raise RuntimeError(
                f"{self.tool} has no run, within which its calls are to be executed once: call it within `with ledger.run(…)`, or give"
                ' `once` a run by the arguments, `run="order {order_id}"`, or a function of them'
            )
        return self._ledger.run(found)


def _hidden(function: Callable[..., Any], is_hidden: Callable[[Any], bool]) -> set[str]:
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:
        # Names that are not there at run time.
        hints = dict(getattr(function, "__annotations__", {}))
    return {name for name, hint in hints.items() if is_hidden(hint)}
