"""The ledger's calls, without a network: generators that yield what to send and how long to pause, and are driven by a thread or by a task."""

import hashlib
import json
import random
import time
import uuid
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from ._errors import (
    InputChanged,
    KeyLeased,
    LeaseLost,
    NotExecuted,
    OutcomeUnknown,
    Refused,
    StepRunning,
    Unavailable,
)

OnLost = Literal["hold", "retry"]
T = TypeVar("T")

RETRIED = {429, 502, 503, 504}
BACKOFF_BASE, BACKOFF_MAX = 0.1, 5.0
ANSWER_SECONDS = 15.0
"""How long one call may take: the server's own `call_timeout`, and some."""
WAIT_SECONDS_MAX = 20.0
"""How long one claim waits at the server before it is sent again: proxies cut longer ones off."""


@dataclass(frozen=True)
class Call:
    method: str
    path: str
    body: Any = None
    answer_seconds: float = ANSWER_SECONDS


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class Reply:
    status: int
    body: Any
    retry_after: float | None = None

    @property
    def kind(self) -> str:
        """The end of a problem's type; empty where it is none."""
        said = self.body.get("type") if isinstance(self.body, dict) and self.status >= 400 else None
        return said.rsplit(":", 1)[-1] if isinstance(said, str) else ""


@dataclass(frozen=True)
class Grant:
    """The right to execute a step, as long as nobody has a higher fence."""

    step: str
    fence: int
    attempt: int
    effect_key: str
    claimed_at: float = field(default=0.0, compare=False)
    """When the claim was sent, by this machine's monotonic clock: the lease has begun after it."""


@dataclass(frozen=True)
class Ended:
    """A step that needs no execution. Of a failed one `result` is the error that was recorded."""

    status: str
    result: Any


@dataclass(frozen=True)
class LostStep:
    """What a reconcile hook is asked about: what happened to the effect with this key?"""

    run: str
    step: str
    fence: int
    attempt: int
    effect_key: str
    owner: str | None
    claimed_at: str


Exchange = Generator[Call | Pause | LostStep, Any, T]
"""Yields calls, pauses and questions. A call is answered with its reply, or None where none came; a lost step with what a hook says of it."""


@dataclass(frozen=True)
class Done:
    """A reconcile hook found that it was done. `evidence`: any JSON that says how you know."""

    result: Any
    evidence: Any


@dataclass(frozen=True)
class Failed:
    """A reconcile hook found that it failed for good."""

    error: Any
    evidence: Any


Outcome = Done | Failed | NotExecuted


@dataclass(frozen=True)
class StepState:
    """A step as it is in the ledger."""

    step: str
    status: str
    """`running`, `done`, `failed`, `released` or `unknown`."""
    result: Any
    fence: int
    attempt: int
    effect_key: str
    owner: str | None
    input_hash: str | None


@dataclass(frozen=True)
class Terms:
    """How a step is executed. Times in seconds."""

    lease: float = 30.0
    on_lost: OnLost = "hold"
    wait: float = 30.0
    input_hash: str | None = None

    def __post_init__(self) -> None:
        if not self.lease > 0:
            raise ValueError(f"lease: {self.lease} is not above 0")


def input_hash(value: Any) -> str:
    """SHA-256 of the input's compact JSON with sorted keys; the same in all clients, as long as its numbers are integers."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def segment(name: str) -> str:
    """One segment of a path. A URL can't carry the names "." and "..", however they are written."""
    if name in (".", ".."):
        raise ValueError(f"{name!r} can't be a name: URLs drop it")
    return quote(name, safe="")


def fields(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


class Protocol:
    """The calls on one ledger. `give_up` is how long, in seconds, one call is sent again before it fails."""

    def __init__(self, owner: str, give_up: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.owner = owner
        self.give_up = give_up
        self.clock = clock

    def ask(self, call: Call, give_up: float | None = None) -> Exchange[Reply]:
        """Sends one call until it has an answer: always the same, so that it is done once however often it arrives."""
        until = self.clock() + (self.give_up if give_up is None else give_up)
        attempt = 0
        while True:
            reply: Reply | None = yield call
            if reply is not None and reply.status not in RETRIED:
                return reply
            jitter = random.uniform(0, min(BACKOFF_MAX, BACKOFF_BASE * 2.0 ** min(attempt, 10)))
            pause = max(jitter, (reply.retry_after or 0.0) if reply is not None else 0.0)
            if self.clock() + pause > until:
                raise Unavailable("no answer" if reply is None else f"{reply.status} {reply.kind}".strip())
            yield Pause(pause)
            attempt += 1

    def claim(self, run: str, step: str, terms: Terms, claim_id: str | None = None) -> Exchange[Grant | Ended]:
        until = self.clock() + terms.wait
        claim_id = claim_id or uuid.uuid4().hex
        while True:
            began = self.clock()
            wait = min(max(until - began, 0.0), WAIT_SECONDS_MAX)
            body = fields(
                claim_id=claim_id,
                owner=self.owner,
                lease_ms=max(1, round(terms.lease * 1000)),
                input_hash=terms.input_hash,
                on_lost=terms.on_lost,
                wait_ms=round(wait * 1000),
            )
            reply = yield from self.ask(Call("POST", step_path(run, step, "claim"), body, ANSWER_SECONDS + wait))
            if reply.status == 201:
                said = reply.body
                return Grant(step, said["fence"], said["attempt"], said["effect_key"], began)
            if reply.status == 200:
                return Ended(reply.body["status"], reply.body["result"])
            if reply.kind != "step-running":
                raise problem(reply, run, step)
            left = until - self.clock()
            if left <= 0:
                raise problem(reply, run, step)
            if self.clock() - began < wait / 2:
                # It did not let us wait: too many do.
                yield Pause(min(reply.retry_after or 1.0, left))

    def heartbeat(self, run: str, grant: Grant, lease: float, give_up: float | None = None) -> Exchange[None]:
        body = {"fence": grant.fence, "lease_ms": max(1, round(lease * 1000))}
        yield from self.change(run, grant.step, "heartbeat", body, give_up)

    def complete(self, run: str, grant: Grant, result: Any, emit: list[dict[str, Any]]) -> Exchange[None]:
        yield from self.change(run, grant.step, "complete", {"fence": grant.fence, "result": result, "emit": emit})

    def fail(self, run: str, grant: Grant, error: Any, emit: list[dict[str, Any]]) -> Exchange[None]:
        # An error of null would read as none.
        error = "failed" if error is None else error
        yield from self.change(run, grant.step, "complete", {"fence": grant.fence, "error": error, "emit": emit})

    def release(self, run: str, grant: Grant) -> Exchange[None]:
        yield from self.change(run, grant.step, "release", {"fence": grant.fence})

    def resolve(self, run: str, step: str, fence: int, outcome: Outcome) -> Exchange[None]:
        body: dict[str, Any] = {"expected_fence": fence, "evidence": outcome.evidence}
        if isinstance(outcome, Done):
            body |= {"outcome": "done", "result": outcome.result}
        elif isinstance(outcome, Failed):
            body |= {"outcome": "failed", "result": outcome.error}
        else:
            body |= {"outcome": "not-executed"}
        yield from self.change(run, step, "resolve", body)

    def change(self, run: str, step: str, action: str, body: Any, give_up: float | None = None) -> Exchange[None]:
        reply = yield from self.ask(Call("POST", step_path(run, step, action), body), give_up)
        if reply.status != 200:
            raise problem(reply, run, step)

    def step(self, run: str, step: str) -> Exchange[dict[str, Any]]:
        reply = yield from self.ask(Call("GET", step_path(run, step)))
        if reply.status != 200:
            raise problem(reply, run, step)
        said: dict[str, Any] = reply.body
        return said

    def lost(self, run: str, step: str, fence: int) -> Exchange[LostStep]:
        said = yield from self.step(run, step)
        return LostStep(run, step, fence, said["attempt"], said["effect_key"], said["owner"], said["claimed_at"])

    def resume(self, run: str) -> Exchange[dict[str, StepState]]:
        found: dict[str, StepState] = {}
        cursor = None
        while True:
            query = f"?cursor={cursor}" if cursor else ""
            reply = yield from self.ask(Call("GET", f"/runs/{segment(run)}/steps{query}"))
            if reply.status != 200:
                raise problem(reply, run, "")
            for item in reply.body["items"]:
                found[item["step"]] = StepState(
                    step=item["step"],
                    status=item["status"],
                    result=item["result"],
                    fence=item["fence"],
                    attempt=item["attempt"],
                    effect_key=item["effect_key"],
                    owner=item["owner"],
                    input_hash=item["input_hash"],
                )
            cursor = reply.body["next"]
            if not cursor:
                return found

    def mark(self, scope: str, key: str, window: str | float, lease: float | None) -> Exchange[int | None]:
        """The fence where the key is new (0 without a lease), None where it was seen."""
        body = fields(
            key=key,
            window=window if isinstance(window, str) else f"{max(1, round(window * 1000))}ms",
            # A lost answer must not make our own repeat "seen".
            claim_id=uuid.uuid4().hex,
            lease_ms=None if lease is None else max(1, round(lease * 1000)),
        )
        reply = yield from self.ask(Call("POST", f"/dedup/{segment(scope)}", body))
        if reply.kind == "key-leased":
            raise KeyLeased(key, reply.retry_after or 1.0)
        if reply.status != 200:
            raise problem(reply, scope, key)
        if reply.body["status"] == "seen":
            return None
        return int(reply.body.get("fence", 0))

    def mark_done(self, scope: str, key: str, fence: int) -> Exchange[None]:
        reply = yield from self.ask(Call("POST", f"/dedup/{segment(scope)}/done", {"key": key, "fence": fence}))
        if reply.status != 200:
            raise problem(reply, scope, key)


def step_path(run: str, step: str, action: str | None = None) -> str:
    path = f"/runs/{segment(run)}/steps/{segment(step)}"
    return f"{path}/{action}" if action else path


def problem(reply: Reply, run: str, step: str) -> Exception:
    said = reply.body if isinstance(reply.body, dict) else {}
    detail = str(said.get("detail", ""))
    match reply.kind:
        case "step-running":
            return StepRunning(step, said.get("owner"), reply.retry_after or 1.0)
        case "outcome-unknown":
            return OutcomeUnknown(run, step, said["fence"])
        case "input-changed":
            return InputChanged(detail)
        case "stale-fence":
            return LeaseLost(detail)
        case kind:
            return Refused(reply.status, kind, detail)
