"""Views of Flask that do the work of each relayed webhook once: `webhook`, below `@app.post(…)`.

    @app.post("/webhooks")
    @webhook(ledger, signing_secret)
    def paid(ctx: StepContext, event: RelayedEvent) -> None: ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ._adapter import needs
from ._ledger import Ledger
from .handler import Handler, HandlerTerms, Work

if TYPE_CHECKING:
    from typing_extensions import Unpack

needs("flask", "flask")


def webhook(ledger: Ledger, secrets: str | Iterable[str], **terms: Unpack[HandlerTerms]) -> Callable[[Work], Callable[[], Any]]:
    """The function as a view: each request is verified, and its event's work done once. `terms` are those of `hookonce.Handler`."""
    return Handler(ledger, secrets, **terms).flask
