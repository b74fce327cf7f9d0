"""Do the work once: the client of hookonce's step ledger, dedup and relayed webhooks."""

from ._context import StepContext
from ._errors import (
    HookonceError,
    InputChanged,
    KeyLeased,
    LeaseLost,
    NotExecuted,
    OutcomeUnknown,
    Refused,
    StepFailed,
    StepRunning,
    Unavailable,
    VerificationFailed,
)
from ._ledger import DedupLease, Ledger, Run
from ._protocol import Done, Ended, Failed, Grant, LostStep, OnLost, StepState, input_hash
from ._webhook import RelayedEvent, verify
from .handler import Answer, Handler

__all__ = [
    "Answer",
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
    "OnLost",
    "OutcomeUnknown",
    "Refused",
    "RelayedEvent",
    "Run",
    "StepContext",
    "StepFailed",
    "StepRunning",
    "StepState",
    "Unavailable",
    "VerificationFailed",
    "input_hash",
    "verify",
]
