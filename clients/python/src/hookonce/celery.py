"""Celery tasks that are executed once, however often the broker delivers them: `once`, below `@app.task`.

    @app.task(acks_late=True, reject_on_worker_lost=True)
    @once(ledger)
    def charge(customer: str, amount: int) -> str: ...

The run is the task (`celery:` and its id), unless `run` is given: `run="order {order}"` is one for all tasks of an order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ._adapter import F, Framework, Once, OnceTerms, needs
from ._ledger import Ledger

if TYPE_CHECKING:
    from typing_extensions import Unpack

needs("celery", "celery")

from celery import Task, current_task  # noqa: E402
from celery.exceptions import Ignore, Reject, Retry  # noqa: E402


def _task() -> str | None:
    identity = current_task.request.id if current_task else None
    return None if identity is None else f"celery:{identity}"


_FRAMEWORK = Framework(run=_task, contexts=(Task,), not_executed=(Retry, Ignore, Reject))


def once(ledger: Ledger, **terms: Unpack[OnceTerms]) -> Callable[[F], F]:
    """Executes the task once within the run, by its arguments. Below `@app.task`.

    The ledger may be made where the app is: the worker's children have connections of their own. A task that raises `self.retry()`,
    `Ignore` or `Reject` has not been executed. One whose worker died is delivered again and raises `OutcomeUnknown`, unless `reconcile`
    finds out, or `on_lost="retry"` executes it again with the same `hookonce.current_step().effect_key`.
    """
    return Once(_FRAMEWORK, ledger, terms)
