"""Tools of LangGraph and LangChain whose calls are executed once: `once`, below `@tool`.

    @tool
    @once(ledger)
    def charge(customer: str, amount: int) -> str: ...

The run is the graph's thread (`configurable.thread_id`), unless the call is within `with ledger.run(…)` or `run` is given.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._adapter import F, Framework, Once, OnceTerms, in_words, needs
from ._ledger import Ledger

if TYPE_CHECKING:
    from typing_extensions import Unpack

needs("langgraph", "langgraph")

from langchain_core.runnables.config import RunnableConfig  # noqa: E402
from langchain_core.tools import InjectedToolArg  # noqa: E402
from langgraph.config import get_config  # noqa: E402
from langgraph.errors import GraphBubbleUp  # noqa: E402
from langgraph.prebuilt import ToolRuntime  # noqa: E402


def _thread() -> str | None:
    try:
        thread = get_config().get("configurable", {}).get("thread_id")
    except RuntimeError:
        # Outside of a graph; or in a coroutine on Python 3.10, which does not know of it.
        return None
    return None if thread is None else f"langgraph:{thread}"


def _is_injected(hint: Any) -> bool:
    """What LangChain gives by itself: its configuration, state, a store, the id of the call."""
    if hint is RunnableConfig or RunnableConfig in typing.get_args(hint):
        return True
    marks = getattr(hint, "__metadata__", ())
    return any(isinstance(mark, InjectedToolArg) or (isinstance(mark, type) and issubclass(mark, InjectedToolArg)) for mark in marks)


# An interrupt asks a person, and then the tool is called again from its beginning.
_FRAMEWORK = Framework(
    run=_thread, contexts=(ToolRuntime,), is_hidden=_is_injected, not_executed=(GraphBubbleUp,), told=in_words, refused=str
)


def once(ledger: Ledger, **terms: Unpack[OnceTerms]) -> Callable[[F], F]:
    """Executes each call of the function once within the run, by its arguments. Below `@tool`.

    A replay is told in words, so that the model knows of it, and so is a repeat that `repeat="ask"` refuses. Within the function,
    `hookonce.current_step().effect_key` is what to pass on as Idempotency-Key.
    """
    return Once(_FRAMEWORK, ledger, terms)
