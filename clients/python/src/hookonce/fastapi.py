"""Endpoints of FastAPI and Starlette that do the work of each relayed webhook once: `webhook`, below `@app.post(…)`.

    @app.post("/webhooks")
    @webhook(ledger, signing_secret)
    async def paid(ctx: StepContext, event: RelayedEvent) -> None: ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ._adapter import needs
from ._ledger import Ledger
from .handler import AsyncWork, Handler, HandlerTerms, Work

if TYPE_CHECKING:
    from typing_extensions import Unpack

needs("starlette", "fastapi")


def webhook(ledger: Ledger, secrets: str | Iterable[str], **terms: Unpack[HandlerTerms]) -> Callable[[Work | AsyncWork], Callable[..., Any]]:
    """The function as an endpoint: each request is verified, and its event's work done once. Plain functions run on a thread.

    `terms` are those of `hookonce.Handler`.
    """
    return Handler(ledger, secrets, **terms).fastapi
