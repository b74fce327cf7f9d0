"""What can go wrong, each by its own name."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._outcome import Outcome


class HookonceError(Exception):
    """The base of all of them."""


class Unavailable(HookonceError):
    """Nobody answered, or 503 and 429 alone, for as long as the client was told to try.

    Whether the last call was done is not known.
    """


class Refused(HookonceError):
    """The call was answered with a problem that trying again does not cure: a token, a name, a size."""

    def __init__(self, status: int, kind: str, detail: str) -> None:
        super().__init__(f"{status} {kind}: {detail}" if detail else f"{status} {kind}")
        self.status = status
        self.kind = kind
        self.detail = detail


class StepRunning(HookonceError):
    """Another is executing the step, and did not end within `wait`."""

    def __init__(self, step: str, owner: str | None, retry_after: float) -> None:
        super().__init__(f"step {step!r} is being executed by {owner or 'another'}")
        self.step = step
        self.owner = owner
        self.retry_after = retry_after


class StepWaiting(HookonceError):
    """The event that the step waits for has not come within `wait`. Ask again, from any process."""

    def __init__(self, step: str, retry_after: float) -> None:
        super().__init__(f"step {step!r} still waits for its event")
        self.step = step
        self.retry_after = retry_after


class OutcomeUnknown(HookonceError):
    """Who executed the step was lost, and nobody knows what came of it: find out, then resolve it with this fence.

    `error` is what the holder said when it stopped, where it could say it.
    """

    def __init__(
        self,
        run: str,
        step: str,
        fence: int,
        *,
        owner: str | None = None,
        claimed_at: str | None = None,
        effect_key: str | None = None,
        error: Any = None,
    ) -> None:
        by = f", held by {owner} since {claimed_at}" if owner and claimed_at else ""
        super().__init__(
            f"the outcome of step {step!r} of run {run!r} is not known (fence {fence}{by}), and it is not executed again before somebody"
            " finds out and resolves it: `hookonce ledger resolve`, `run.resolve(…)`, or `reconcile`"
        )
        self.run = run
        self.step = step
        self.fence = fence
        self.owner = owner
        self.claimed_at = claimed_at
        self.effect_key = effect_key
        self.error = error


class InputChanged(HookonceError):
    """The step was claimed before with another input: a step is one piece of work."""


class LeaseLost(HookonceError):
    """The step, or the key, is no longer this holder's: stop, and record nothing."""


class StepFailed(HookonceError):
    """The step has failed for good. Raised by the work, `error` is recorded as its end and given to all who come later.

    Of one that failed before, `outcome` says when and by whom.
    """

    def __init__(self, error: Any, outcome: "Outcome[Any] | None" = None) -> None:
        super().__init__(f"the step failed: {error!r}")
        self.error = error
        self.outcome = outcome


class WaitTimedOut(StepFailed):
    """No such event came in time. The step has ended so: whoever asks again is told the same."""


class ResultNotKept(HookonceError):
    """The step is done and is not executed again, but its result could not be kept: `reason` is `too-large` or `not-encodable`.

    `outcome` says when it was done and by whom. `run.outcome(…)` gives that instead of raising.
    """

    def __init__(self, step: str, reason: str, detail: str | None, outcome: "Outcome[Any]") -> None:
        super().__init__(f"step {step!r} is done, but its result was not kept ({reason}{f': {detail}' if detail else ''})")
        self.step = step
        self.reason = reason
        self.detail = detail
        self.outcome = outcome


class RepeatRefused(HookonceError):
    """Under `repeat="ask"`: this same call was made before. `outcome` says what came of it, when, and by whom."""

    def __init__(self, tool: str, arguments: Any, outcome: "Outcome[Any]") -> None:
        super().__init__(outcome.refusal(tool))
        self.tool = tool
        self.arguments = arguments
        self.outcome = outcome


class NotExecuted(HookonceError):
    """Nothing was done. Raised by the work, the step is given back at once; returned by a reconcile hook, the step is free again."""

    def __init__(self, evidence: Any) -> None:
        super().__init__(str(evidence))
        self.evidence = evidence


class KeyLeased(HookonceError):
    """Another is handling the key: neither handle it nor acknowledge the message."""

    def __init__(self, key: str, retry_after: float) -> None:
        super().__init__(f"key {key!r} is being handled by another")
        self.retry_after = retry_after


class VerificationFailed(HookonceError):
    """The request is not one that hookonce signed for this handler, or is too old. `reason` is a stable code."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
