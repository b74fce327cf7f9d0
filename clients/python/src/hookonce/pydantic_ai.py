"""Tools of Pydantic AI whose calls are executed once: `once`, below `@agent.tool` or `@agent.tool_plain`.

    @agent.tool_plain
    @once(ledger)
    def charge(customer: str, amount: int) -> str: ...

    with ledger.run(conversation_id):
        agent.run_sync("…")
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._adapter import F, Framework, Once, OnceTerms, needs
from ._ledger import Ledger
from ._outcome import Outcome

if TYPE_CHECKING:
    from typing_extensions import Unpack

needs("pydantic_ai", "pydantic-ai")

from pydantic_ai import ApprovalRequired, CallDeferred, ModelRetry, RunContext, ToolReturn  # noqa: E402


def _told(done: Outcome[Any]) -> ToolReturn:
    """The result as it was, and beside it that it is a replay."""
    return ToolReturn(done.result, content=done.message, metadata=done)


_FRAMEWORK = Framework(
    contexts=(RunContext,), not_executed=(ModelRetry, CallDeferred, ApprovalRequired), told=_told, refused=str
)


def once(ledger: Ledger, **terms: Unpack[OnceTerms]) -> Callable[[F], F]:
    """Executes each call of the function once within the run, by its arguments. Below `@agent.tool` and `@agent.tool_plain`.

    A replay is told in words beside the result, so that the model knows of it, and so is a repeat that `repeat="ask"` refuses. A
    function that raises `ModelRetry`, `CallDeferred` or `ApprovalRequired` has not been executed. Within it,
    `hookonce.current_step().effect_key` is what to pass on as Idempotency-Key.
    """
    return Once(_FRAMEWORK, ledger, terms)
