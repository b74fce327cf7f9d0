"""Tools of the OpenAI Agents SDK whose calls are executed once: `once`, below `@function_tool`.

    @function_tool
    @once(ledger)
    def charge(customer: str, amount: int) -> str: ...

    with ledger.run(conversation_id):
        await Runner.run(agent, "…")
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ._adapter import F, Framework, Once, OnceTerms, in_words, needs
from ._ledger import Ledger

if TYPE_CHECKING:
    from typing_extensions import Unpack

needs("agents", "openai-agents")

from agents import RunContextWrapper  # noqa: E402

_FRAMEWORK = Framework(contexts=(RunContextWrapper,), told=in_words, refused=str)


def once(ledger: Ledger, **terms: Unpack[OnceTerms]) -> Callable[[F], F]:
    """Executes each call of the function once within the run, by its arguments. Below `@function_tool`.

    A replay is told in words, so that the model knows of it, and so is a repeat that `repeat="ask"` refuses. Within the function,
    `hookonce.current_step().effect_key` is what to pass on as Idempotency-Key.
    """
    return Once(_FRAMEWORK, ledger, terms)
