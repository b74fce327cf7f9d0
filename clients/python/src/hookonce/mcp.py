"""Tools of a Python MCP server whose calls are executed once: `once`, below `@server.tool()`.

    @server.tool()
    @once(ledger, run="order {order}")
    def charge(order: str, amount: int) -> str: ...

For servers that are not yours to change there is `hookonce mcp`, a proxy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._adapter import F, Framework, Once, OnceTerms, in_words, needs
from ._ledger import Ledger
from ._outcome import Outcome

if TYPE_CHECKING:
    from typing_extensions import Unpack

needs("mcp", "mcp")

from mcp.server.mcpserver import Context  # noqa: E402
from mcp.server.mcpserver.exceptions import ToolError  # noqa: E402


def _told(done: Outcome[Any]) -> Any:
    """Text says that it is a replay; what has a schema keeps to it."""
    return in_words(done) if done.result is None or isinstance(done.result, str) else done.result


_FRAMEWORK = Framework(contexts=(Context,), told=_told, error=ToolError)


def once(ledger: Ledger, **terms: Unpack[OnceTerms]) -> Callable[[F], F]:
    """Executes each call of the function once within the run, by its arguments. Below `@server.tool()`.

    `run` names the run, by the arguments. A replay of text says that it is one. A repeat that `repeat="ask"` refuses, and a call
    whose outcome is not known, are a tool's errors that say what was done and what to do. Within the function, `hookonce.current_step().effect_key` is what to pass on as Idempotency-Key.
    """
    return Once(_FRAMEWORK, ledger, terms)
