"""What can go wrong, each by its own name."""

from typing import Any


class HookonceError(Exception):
    """The base of all of them."""


class Unavailable(HookonceError):
    """Nobody answered, or 503 and 429 alone, for as long as the client was told to try. Whether the last call was done is not known."""


class Refused(HookonceError):
    """The call was answered with a problem that trying again does not cure: a token, a name, a size."""

    def __init__(self, status: int, kind: str, detail: str) -> None:
        super().__init__(f"{status} {kind}: {detail}" if detail else f"{status} {kind}")
        self.status = status
        self.kind = kind


class StepRunning(HookonceError):
    """Another is executing the step, and did not end within `wait`."""

    def __init__(self, step: str, owner: str | None, retry_after: float) -> None:
        super().__init__(f"step {step!r} is being executed by {owner or 'another'}")
        self.step = step
        self.owner = owner
        self.retry_after = retry_after


class OutcomeUnknown(HookonceError):
    """Who executed the step was lost, and nobody knows what came of it: find out, then resolve it with this fence."""

    def __init__(self, run: str, step: str, fence: int) -> None:
        super().__init__(f"the outcome of step {step!r} of run {run!r} is not known (fence {fence})")
        self.run = run
        self.step = step
        self.fence = fence


class InputChanged(HookonceError):
    """The step was claimed before with another input: a step is one piece of work."""


class LeaseLost(HookonceError):
    """The step, or the key, is no longer this holder's: stop, and record nothing."""


class StepFailed(HookonceError):
    """The step has failed for good. Raised by the work, `error` is recorded as its end and given to all who come later."""

    def __init__(self, error: Any) -> None:
        super().__init__(f"the step failed: {error!r}")
        self.error = error


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
