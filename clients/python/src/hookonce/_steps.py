"""Functions as steps: what their names, their runs and their inputs are, from their arguments."""

import functools
import hashlib
import inspect
import string
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from ._context import StepContext
from ._execute import Reconcile, is_async, refuse_outside_asyncio
from ._outcome import Outcome
from ._protocol import Terms, input_hash
from ._results import as_json
from ._run import Run, current_run, result_of, well_ended

if TYPE_CHECKING:
    from ._ledger import Ledger

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
S = TypeVar("S")

NAME_BYTES_MAX = 255


class Step(Protocol[P, T_co]):
    """A function that is a step."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T_co: ...

    def outcome(self, *args: P.args, **kwargs: P.kwargs) -> Outcome[T_co]:
        """As the call, and tells whether this was the first execution or a replay, of when, and of whom."""
        ...


class AsyncStep(Protocol[P, T_co]):
    """A coroutine function that is a step."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T_co]: ...

    def outcome(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, Outcome[T_co]]:
        """As the call, and tells whether this was the first execution or a replay, of when, and of whom."""
        ...


class StepDecorator:
    """What `Ledger.step` gives: makes a function, a coroutine function or a method a step."""

    def __init__(
        self,
        ledger: "Ledger",
        name: str | None,
        run: str | None,
        terms: Terms,
        input: Callable[..., Any] | None,
        reconcile: Reconcile | None,
        detach: bool,
    ) -> None:
        if callable(name):
            raise TypeError("write `@ledger.step()`, with parentheses")
        self._ledger, self._name, self._run = ledger, name, run
        self._terms, self._input, self._reconcile, self._detach = terms, input, reconcile, detach

    # The first that fits counts: a coroutine function before a function, and a function before a method.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, work: Callable[Concatenate[StepContext, P], Coroutine[Any, Any, T]]
    ) -> AsyncStep[P, T]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, work: Callable[Concatenate[StepContext, P], T]
    ) -> Step[P, T]: ...
    @overload
    def __call__(
        self, work: Callable[Concatenate[S, StepContext, P], Coroutine[Any, Any, T]]
    ) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]: ...
    @overload
    def __call__(self, work: Callable[Concatenate[S, StepContext, P], T]) -> Callable[Concatenate[S, P], T]: ...
    def __call__(self, work: Callable[..., Any]) -> Any:
        placed = _Placed(self._ledger, work, self._name, self._run, self._terms, self._input)
        reconcile, detach = self._reconcile, self._detach
        called: Any
        outcome: Any
        if is_async(work):

            async def aperform(arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[str, Outcome[Any]]:
                refuse_outside_asyncio()
                run, name, terms = placed.at(arguments, named)
                body = placed.work(arguments, named)
                return name, await run.aperform(name, lambda context: body(context), terms, reconcile, detach)

            async def aoutcome(*arguments: Any, **named: Any) -> Outcome[Any]:
                return well_ended((await aperform(arguments, named))[1])

            @functools.wraps(work)
            async def astep(*arguments: Any, **named: Any) -> Any:
                return result_of(*await aperform(arguments, named))

            called, outcome = astep, aoutcome
        else:

            def perform(arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[str, Outcome[Any]]:
                run, name, terms = placed.at(arguments, named)
                return name, run.perform(name, placed.work(arguments, named), terms, reconcile, detach)

            def soutcome(*arguments: Any, **named: Any) -> Outcome[Any]:
                return well_ended(perform(arguments, named)[1])

            @functools.wraps(work)
            def step(*arguments: Any, **named: Any) -> Any:
                return result_of(*perform(arguments, named))

            called, outcome = step, soutcome
        # Frameworks read what a function takes: its callers' arguments, and not the context.
        called.__signature__ = outcome.__signature__ = placed.callers
        called.__annotations__ = {k: v for k, v in getattr(work, "__annotations__", {}).items() if k != placed.context}
        called.outcome = outcome
        return called


class _Placed:
    """A function, and where among its arguments the context is."""

    def __init__(
        self,
        ledger: "Ledger",
        work: Callable[..., Any],
        name: str | None,
        run: str | None,
        terms: Terms,
        input: Callable[..., Any] | None,
    ) -> None:
        self._ledger, self._work, self._name, self._run = ledger, work, name, run
        self._terms, self._input = terms, input
        self.label = getattr(work, "__name__", type(work).__name__)
        signature = inspect.signature(work)
        parameters = list(signature.parameters.values())
        self._index = _index_of_context(parameters, self.label)
        self.context = parameters[self._index].name
        self.callers = signature.replace(parameters=parameters[: self._index] + parameters[self._index + 1 :])
        # What a method is called on is not what it is called with.
        self._own = {parameter.name for parameter in parameters[: self._index]}

    def work(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> Callable[[StepContext], Any]:
        """The call, once its context is there."""
        before, after = arguments[: self._index], arguments[self._index :]

        def body(context: StepContext) -> Any:
            return self._work(*before, context, *after, **named)

        body.__qualname__ = self.label
        return body

    def at(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Run, str, Terms]:
        """The run and the step that a call is, and its terms."""
        bound = self.callers.bind(*arguments, **named)
        bound.apply_defaults()
        given = {name: value for name, value in bound.arguments.items() if name not in self._own}
        jsonable = self._jsonable(given)
        if self._input is not None:
            counted = as_json(self._input(*arguments[self._index :], **named), self._ledger.encode)
        else:
            counted = jsonable
        terms = Terms(self._terms.lease, self._terms.on_lost, self._terms.wait, input_hash(counted))
        return self._run_of(bound.arguments), self._name_of(bound.arguments, counted), terms

    def _jsonable(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments that are JSON, or that the ledger's hook makes JSON of. Others (a session, a client) don't make another step."""
        found = {}
        for name, value in given.items():
            try:
                plain = as_json(value, self._ledger.encode)
                input_hash(plain)
            except Exception:
                continue
            found[name] = plain
        return found

    def _name_of(self, arguments: Mapping[str, Any], counted: Any) -> str:
        if self._name is None:
            label = self.label.encode()[: NAME_BYTES_MAX - 65].decode(errors="ignore")
            return f"{label}:{input_hash(counted).removeprefix('sha256:')}"
        return format_name(self._name, arguments)

    def _run_of(self, arguments: Mapping[str, Any]) -> Run:
        if self._run is not None:
            return Run(self._ledger, format_name(self._run, arguments))
        run = current_run()
        if run is None:
            raise RuntimeError(
                f"the step {self.label} has no run: give the decorator `run`, or call it within `with ledger.run(…) as run`. A thread does"
                " not know of the `with` around it: write `pool.submit(run.bind(function), …)`, or `await asyncio.to_thread(function, …)`"
            )
        return run


def _index_of_context(parameters: list[inspect.Parameter], label: str) -> int:
    """Where the context is: the parameter of that type, or the first one after `self`."""
    for index, parameter in enumerate(parameters):
        said = parameter.annotation
        if said is StepContext or (isinstance(said, str) and said.strip("'\"").rsplit(".", 1)[-1] == "StepContext"):
            break
    else:
        index = 1 if parameters and parameters[0].name in ("self", "cls") else 0
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if index > 1 or index >= len(parameters) or parameters[index].kind not in positional:
        raise TypeError(f"{label}: a step takes its context first: write `def {label}(ctx: StepContext, …)`, in a class after `self`")
    return index


def format_name(template: str, arguments: Mapping[str, Any]) -> str:
    """The template with the arguments in it, so that two different sets of values never give the same name.

    Where a value holds a separator of the template (`"{a}:{b}"` with "1:2"), a digest of the values is put behind.
    """
    literals: list[str] = []
    values: list[str] = []
    formatter = string.Formatter()
    for literal, field, form, conversion in formatter.parse(template):
        literals.append(literal)
        if field is not None:
            value, _ = formatter.get_field(field, (), arguments)
            # A conversion or a form may itself have fields: `{amount:{width}}`.
            values.append(formatter.format_field(formatter.convert_field(value, conversion), formatter.vformat(form or "", (), arguments)))
    text = template.format_map(arguments)
    between = literals[1 : len(values)]
    if len(values) < 2 or (all(between) and not any(sign in value for sign in set("".join(between)) for value in values)):
        return text
    digest = hashlib.sha256(input_hash(values).encode()).hexdigest()[:16]
    return f"{text}~{digest}"
