"""Do the work once: the client of hookonce's step ledger, dedup and relayed webhooks."""

from ._calls import Repeat, call_step, canonical_json
from ._context import StepContext, current_step
from ._dedup import DedupLease
from ._errors import (
    HookonceError,
    InputChanged,
    KeyLeased,
    LeaseLost,
    NotExecuted,
    OutcomeUnknown,
    Refused,
    RepeatRefused,
    ResultNotKept,
    StepFailed,
    StepRunning,
    StepWaiting,
    Unavailable,
    VerificationFailed,
    WaitTimedOut,
)
from ._ledger import Ledger
from ._outcome import Outcome
from ._protocol import Done, Ended, Failed, Grant, LostStep, OnLost, StepState, input_hash
from ._results import NotKept, encode
from ._run import Run, current_run
from ._steps import AsyncStep, Step
from ._wait import Arrived
from ._webhook import RelayedEvent, verify
from .handler import Answer, Handler

__all__ = [
    "Answer",
    "Arrived",
    "AsyncStep",
    "DedupLease",
    "Done",
    "Ended",
    "Failed",
    "Grant",
    "Handler",
    "HookonceError",
    "InputChanged",
    "KeyLeased",
    "LeaseLost",
    "Ledger",
    "LostStep",
    "NotExecuted",
    "NotKept",
    "OnLost",
    "Outcome",
    "OutcomeUnknown",
    "Refused",
    "RelayedEvent",
    "Repeat",
    "RepeatRefused",
    "ResultNotKept",
    "Run",
    "Step",
    "StepContext",
    "StepFailed",
    "StepRunning",
    "StepState",
    "StepWaiting",
    "Unavailable",
    "VerificationFailed",
    "WaitTimedOut",
    "call_step",
    "canonical_json",
    "current_run",
    "current_step",
    "encode",
    "input_hash",
    "verify",
]
