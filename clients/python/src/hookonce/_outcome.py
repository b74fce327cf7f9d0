"""What came of a step, and whether it was just executed or had been before."""

import datetime
import re
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ._results import NotKept

T_co = TypeVar("T_co", covariant=True)

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)")


def read_time(text: str | None) -> datetime.datetime | None:
    """RFC 3339, to the microsecond."""
    found = _TIME.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    day, time, fraction, zone = found.groups()
    offset = "+00:00" if zone in "Zz" else zone
    return datetime.datetime.fromisoformat(f"{day}T{time}.{(fraction or '0')[:6]:0<6}{offset}")


def write_time(time: datetime.datetime) -> str:
    """As people and models read it: to the second, in UTC."""
    return time.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Outcome(Generic[T_co]):
    """What came of a step. `replayed_at` tells a replay from a first execution."""

    result: T_co
    """As JSON has it, the first time as every time after. Of one that was not kept: what the work returned, the first time; then None."""
    status: str = "done"
    """`done`; or `failed`, of `StepFailed.outcome`, and then `result` is the error that was recorded."""
    replayed_at: datetime.datetime | None = None
    """When the ledger gave this answer, by its own clock; None where the work was executed just now."""
    ended_at: datetime.datetime | None = None
    """When the step ended, by the ledger's clock; None where the work was executed just now."""
    owner: str | None = None
    """By whom; None where nobody said."""
    result_not_kept: NotKept | None = None
    """Why there is no result, though the step is done."""

    @property
    def message(self) -> str:
        """What happened, in words that a model understands."""
        if self.replayed_at is None:
            if self.result_not_kept:
                return f"Executed now. Its result was not kept ({self.result_not_kept.reason})."
            return "Executed now."
        if self.result_not_kept:
            rest = f"its result was not kept ({self.result_not_kept.reason})."
        elif self.status == "failed":
            rest = "it failed, and this is the error."
        else:
            rest = "this is its result."
        return f"Not executed again: this same call was {self._done()}; {rest}"

    def refusal(self, tool: str) -> str:
        """Why a repeat is refused, and what to do, in words that a model understands."""
        how = "it was done"
        if self.result_not_kept:
            how += f", its result was not kept ({self.result_not_kept.reason})"
        return (
            f"Not executed again: {tool} was called before with these same arguments, and {how}{self._when()}. To take what came of it, call"
            ' again with repeat="once". To do it once more, call again with repeat="numbered".'
        )

    def _done(self) -> str:
        return "done" + self._when()

    def _when(self) -> str:
        at = f" at {write_time(self.ended_at)}" if self.ended_at else " before"
        return at + (f" by {self.owner}" if self.owner else "")


def first(result: Any, owner: str | None, not_kept: NotKept | None = None) -> Outcome[Any]:
    """Of a first execution."""
    return Outcome(result, owner=owner, result_not_kept=not_kept)
