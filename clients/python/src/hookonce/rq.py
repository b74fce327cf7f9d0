"""Jobs of RQ that are executed once, however often they are retried: `once`.

    @once(ledger)
    def charge(customer: str, amount: int) -> str: ...

    queue.enqueue(charge, "cus_1", 500, retry=Retry(max=3))

The run is the job (`rq:` and its id), unless `run` is given: `run="order {order}"` is one for all jobs of an order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ._adapter import F, Framework, Once, OnceTerms, needs
from ._ledger import Ledger

if TYPE_CHECKING:
    from typing_extensions import Unpack

needs("rq", "rq")

from rq import Retry, get_current_job  # noqa: E402


def _job() -> str | None:
    job = get_current_job()
    return None if job is None else f"rq:{job.id}"


_FRAMEWORK = Framework(run=_job, again=(Retry,))


def once(ledger: Ledger, **terms: Unpack[OnceTerms]) -> Callable[[F], F]:
    """Executes the job once within the run, by its arguments.

    The ledger may be made where the job is: the work horse that the worker forks has connections of its own. A job that returns `Retry`
    has not been executed. One whose work horse died and that is tried again raises `OutcomeUnknown`, unless `reconcile` finds out, or
    `on_lost="retry"` executes it again with the same `hookonce.current_step().effect_key`.
    """
    return Once(_FRAMEWORK, ledger, terms)
