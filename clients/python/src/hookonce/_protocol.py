"""The ledger's calls, without a network: generators that yield what to send and how long to pause, and are driven by a thread or by a task."""

import datetime
import hashlib
import json
import random
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
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
    StepWaiting,
    Unavailable,
)
from ._outcome import Outcome, read_time
from ._results import NotKept

OnLost = Literal["hold", "retry"]
Lane = Literal["ask", "hold"]
"""Which connections a call takes. What a holder says of its step never queues behind those that ask for one."""
T = TypeVar("T")

RETRIED = {429, 502, 503, 504}
BACKOFF_BASE, BACKOFF_MAX = 0.1, 5.0
ANSWER_SECONDS = 15.0
"""How long one call may take: the server's own `call_timeout`, and some."""
WAIT_SECONDS_MAX = 20.0
"""How long one claim waits at the server before it is sent again: proxies cut longer ones off."""
WAITING_MAX = 64
"""How many claims of one process wait at the server, each on a connection. Further ones ask, and ask again later."""
ABANDON_GIVE_UP = 1.0
"""Who stops says so at once or not at all: the lease ends by itself."""


@dataclass(frozen=True)
class Call:
    """A request to send, and what its answer must name."""

    method: str
    path: str
    body: Any = None
    answer_seconds: float = ANSWER_SECONDS
    lane: Lane = "ask"
    about: Mapping[str, str] = field(default_factory=dict)
    """What an answer names, if it is the answer to this call: `run` and `step`, or `scope` and `key`."""
    claim_id: str | None = None
    """The claim that a good answer names."""

    def is_answered_by(self, reply: "Reply") -> bool:
        """False where the answer is one to another call: connections have been mixed up, by a fork or by a proxy."""
        said = reply.body
        if not isinstance(said, dict):
            return True
        if any(said.get(name) not in (None, asked) for name, asked in self.about.items()):
            return False
        return reply.status >= 400 or self.claim_id is None or said.get("claim_id") in (None, self.claim_id)


@dataclass(frozen=True)
class Pause:
    """How long to wait before going on."""

    seconds: float


@dataclass(frozen=True)
class Broken:
    """The connections of this lane give other calls' answers: none of them is to be used again."""

    lane: Lane


class Waiters:
    """Those that wait at the server, of all threads and tasks of one ledger."""

    def __init__(self, most: int = WAITING_MAX) -> None:
        self._lock = threading.Lock()
        self._left = most

    @contextmanager
    def wait(self, seconds: float) -> Iterator[float]:
        """How long it may wait: not at all where too many do."""
        with self._lock:
            may = seconds > 0 and self._left > 0
            self._left -= may
        try:
            yield seconds if may else 0.0
        finally:
            with self._lock:
                self._left += may


@dataclass(frozen=True)
class Reply:
    """What was answered. `retry_after` in seconds."""

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
    claim_id: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Ended:
    """A step that needs no execution. Of a failed one `result` is the error that was recorded."""

    status: str
    result: Any
    ended_at: datetime.datetime | None = None
    owner: str | None = None
    replayed_at: datetime.datetime | None = None
    result_not_kept: NotKept | None = None

    def outcome(self) -> Outcome[Any]:
        """As a caller gets it."""
        replayed_at = self.replayed_at or datetime.datetime.now(datetime.timezone.utc)
        return Outcome(self.result, self.status, replayed_at, self.ended_at, self.owner, self.result_not_kept)


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
    error: Any = None
    """What the holder said when it stopped, where it could say it."""


Wanted = Call | Pause | Broken | LostStep
Exchange = Generator[Wanted, Any, T]
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


Resolution = Done | Failed | NotExecuted


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
    ended_at: datetime.datetime | None = None
    result_not_kept: NotKept | None = None
    error: Any = None
    """Of an unknown step: what its holder said when it stopped, where it could say it."""


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


def milliseconds(seconds: float) -> int:
    """At least one."""
    return max(1, round(seconds * 1000))


def beat_seconds(lease: float) -> float:
    """How long a beat waits for its answer: the next one must still come in time."""
    return min(ANSWER_SECONDS, max(1.0, lease / 3))


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
    """Those that are not None."""
    return {name: value for name, value in values.items() if value is not None}


class Protocol:
    """The calls on one ledger. `give_up` is how long, in seconds, one call is sent again before it fails."""

    def __init__(self, owner: str, give_up: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.owner = owner
        self.give_up = give_up
        self.clock = clock
        self.waiters = Waiters()

    def renew(self, owner: str) -> None:
        """In a forked child, where nobody waits yet and no thread will give a lock back."""
        self.owner = owner
        self.waiters = Waiters()

    def ask(self, call: Call, give_up: float | None = None) -> Exchange[Reply]:
        """Sends one call until it has an answer: always the same, so that it is done once however often it arrives."""
        until = self.clock() + (self.give_up if give_up is None else give_up)
        attempt = 0
        while True:
            reply: Reply | None = yield call
            if reply is not None and not call.is_answered_by(reply):
                yield Broken(call.lane)
                reply = None
            if reply is not None and reply.status not in RETRIED:
                return reply
            jitter = random.uniform(0, min(BACKOFF_MAX, BACKOFF_BASE * 2.0 ** min(attempt, 10)))
            pause = max(jitter, (reply.retry_after or 0.0) if reply is not None else 0.0)
            if self.clock() + pause > until:
                raise Unavailable("no answer" if reply is None else f"{reply.status} {reply.kind}".strip())
            yield Pause(pause)
            attempt += 1

    def claim(
        self, run: str, step: str, terms: Terms, claim_id: str | None = None, give_up: float | None = None
    ) -> Exchange[Grant | Ended]:
        """The right to execute the step, or how it ended."""
        claim_id = claim_id or uuid.uuid4().hex
        body = fields(
            claim_id=claim_id,
            owner=self.owner,
            lease_ms=milliseconds(terms.lease),
            input_hash=terms.input_hash,
            on_lost=terms.on_lost,
        )
        path = step_path(run, step, "claim")
        reply, began = yield from self.wait(path, body, {"run": run, "step": step}, terms.wait, "step-running", claim_id, give_up)
        if reply.status == 201:
            said = reply.body
            return Grant(step, said["fence"], said["attempt"], said["effect_key"], began, claim_id)
        if reply.status == 200:
            return ended(reply.body)
        raise problem(reply, run, step)

    def wait(
        self,
        path: str,
        body: dict[str, Any],
        about: Mapping[str, str],
        patience: float,
        kind: str,
        claim_id: str | None = None,
        give_up: float | None = None,
    ) -> Exchange[tuple[Reply, float]]:
        """Asks until the answer is another than the problem `kind`, for so long. Gives it, and when its call was sent."""
        until = self.clock() + patience
        while True:
            began = self.clock()
            with self.waiters.wait(min(max(until - began, 0.0), WAIT_SECONDS_MAX)) as waits:
                asked = {**body, "wait_ms": round(waits * 1000)}
                call = Call("POST", path, asked, ANSWER_SECONDS + waits, about=about, claim_id=claim_id)
                reply = yield from self.ask(call, give_up)
            left = until - self.clock()
            if reply.kind != kind or left <= 0:
                return reply, began
            if self.clock() - began < max(waits / 2, 0.1):
                # It did not let us wait: too many do. They must not all come back in the same moment.
                yield Pause(min((reply.retry_after or 1.0) * random.uniform(0.5, 1.5), left))

    def heartbeat(self, run: str, grant: Grant, lease: float, give_up: float | None = None) -> Exchange[None]:
        """Extends the lease to so long from now."""
        body = {"lease_ms": milliseconds(lease)}
        reply = yield from self.held(run, grant, "heartbeat", body, give_up, beat_seconds(lease))
        if reply.status != 200:
            raise problem(reply, run, grant.step)

    def complete(self, run: str, grant: Grant, result: Any, emit: list[dict[str, Any]], not_kept: NotKept | None = None) -> Exchange[NotKept | None]:
        """The step is done. A result that the server can't keep is recorded as such: what was done must not be done again."""
        if not_kept is None:
            reply = yield from self.held(run, grant, "complete", {"result": result, "emit": emit})
            if reply.status == 200:
                return None
            not_kept = unkeepable(reply)
            if not_kept is None:
                raise problem(reply, run, grant.step)
        marker = fields(reason=not_kept.reason, detail=not_kept.detail)
        yield from self.hold(run, grant, "complete", {"result_not_kept": marker, "emit": emit})
        return not_kept

    def fail(self, run: str, grant: Grant, error: Any, emit: list[dict[str, Any]]) -> Exchange[None]:
        """The step failed for good."""
        # An error of null would read as none.
        error = "failed" if error is None else error
        reply = yield from self.held(run, grant, "complete", {"error": error, "emit": emit})
        if unkeepable(reply):
            short = {"error": str(error)[:1000], "not_kept": "too-large"}
            reply = yield from self.held(run, grant, "complete", {"error": short, "emit": emit})
        if reply.status != 200:
            raise problem(reply, run, grant.step)

    def release(self, run: str, grant: Grant, give_up: float | None = None) -> Exchange[None]:
        """Nothing was executed."""
        yield from self.hold(run, grant, "release", {}, give_up)

    def abandon(self, run: str, grant: Grant, error: Any, give_up: float | None = None) -> Exchange[None]:
        """The holder stops, and does not know what came of it."""
        yield from self.hold(run, grant, "abandon", {"error": error}, give_up)

    def held(
        self, run: str, grant: Grant, action: str, body: Any, give_up: float | None = None, seconds: float = ANSWER_SECONDS
    ) -> Exchange[Reply]:
        """What a holder says of its step."""
        said = fields(fence=grant.fence, claim_id=grant.claim_id) | body
        about = {"run": run, "step": grant.step}
        call = Call("POST", step_path(run, grant.step, action), said, seconds, "hold", about, grant.claim_id)
        return (yield from self.ask(call, give_up))

    def hold(self, run: str, grant: Grant, action: str, body: Any, give_up: float | None = None) -> Exchange[None]:
        """The same, to be answered with 200."""
        reply = yield from self.held(run, grant, action, body, give_up)
        if reply.status != 200:
            raise problem(reply, run, grant.step)

    def resolve(self, run: str, step: str, fence: int, outcome: Resolution) -> Exchange[None]:
        """Ends the doubt about an unknown step."""
        body: dict[str, Any] = {"expected_fence": fence, "evidence": outcome.evidence}
        if isinstance(outcome, Done):
            body |= {"outcome": "done", "result": outcome.result}
        elif isinstance(outcome, Failed):
            body |= {"outcome": "failed", "result": outcome.error}
        else:
            body |= {"outcome": "not-executed"}
        call = Call("POST", step_path(run, step, "resolve"), body, lane="hold", about={"run": run, "step": step})
        reply = yield from self.ask(call)
        if reply.status != 200:
            raise problem(reply, run, step)

    def step(self, run: str, step: str) -> Exchange[dict[str, Any]]:
        """One step as the ledger tells of it."""
        reply = yield from self.ask(Call("GET", step_path(run, step), about={"run": run, "step": step}))
        if reply.status != 200:
            raise problem(reply, run, step)
        said: dict[str, Any] = reply.body
        return said

    def lost(self, run: str, step: str, fence: int) -> Exchange[LostStep]:
        """What there is to know of a step whose holder was lost."""
        said = yield from self.step(run, step)
        return LostStep(
            run, step, fence, said["attempt"], said["effect_key"], said["owner"], said["claimed_at"], said.get("error")
        )

    def resume(self, run: str) -> Exchange[dict[str, StepState]]:
        """All steps of a run."""
        found: dict[str, StepState] = {}
        cursor = None
        while True:
            query = f"?cursor={cursor}" if cursor else ""
            reply = yield from self.ask(Call("GET", f"/runs/{segment(run)}/steps{query}", about={"run": run}))
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
                    ended_at=read_time(item.get("ended_at")),
                    result_not_kept=not_kept_of(item),
                    error=item.get("error"),
                )
            cursor = reply.body["next"]
            if not cursor:
                return found

    def wait_for(self, run: str, step: str, event: Mapping[str, Any], timeout: float, patience: float) -> Exchange[Ended]:
        """How the step ended that waits for an event."""
        body = {**event, "timeout_ms": milliseconds(timeout)}
        about = {"run": run, "step": step}
        reply, _ = yield from self.wait(step_path(run, step, "wait"), body, about, patience, "step-waiting")
        if reply.status != 200:
            raise problem(reply, run, step)
        return ended(reply.body)

    def mark(self, scope: str, key: str, window: str | float, lease: float | None) -> Exchange["KeyGrant | None"]:
        """The grant where the key is new (of fence 0 without a lease), None where it was seen."""
        # A lost answer must not make our own repeat "seen".
        claim_id = uuid.uuid4().hex
        body = fields(
            key=key,
            window=window if isinstance(window, str) else f"{milliseconds(window)}ms",
            claim_id=claim_id,
            lease_ms=None if lease is None else milliseconds(lease),
        )
        began = self.clock()
        about = {"scope": scope, "key": key}
        reply = yield from self.ask(Call("POST", f"/dedup/{segment(scope)}", body, about=about, claim_id=claim_id))
        if reply.kind == "key-leased":
            raise KeyLeased(key, reply.retry_after or 1.0)
        if reply.status != 200:
            raise problem(reply, scope, key)
        if reply.body["status"] == "seen":
            return None
        return KeyGrant(scope, key, int(reply.body.get("fence", 0)), claim_id, began)

    def key_done(self, grant: "KeyGrant") -> Exchange[None]:
        """The key is handled."""
        yield from self.hold_key(grant, "done", {})

    def key_heartbeat(self, grant: "KeyGrant", lease: float, give_up: float | None = None) -> Exchange[None]:
        """Extends the key's lease to so long from now."""
        yield from self.hold_key(grant, "heartbeat", {"lease_ms": milliseconds(lease)}, give_up, beat_seconds(lease))

    def key_release(self, grant: "KeyGrant", give_up: float | None = None) -> Exchange[None]:
        """The key is free at once."""
        yield from self.hold_key(grant, "release", {}, give_up)

    def hold_key(
        self,
        grant: "KeyGrant",
        action: str,
        body: dict[str, Any],
        give_up: float | None = None,
        seconds: float = ANSWER_SECONDS,
    ) -> Exchange[None]:
        """What a holder says of its key."""
        said = {"key": grant.key, "fence": grant.fence, **body}
        about = {"scope": grant.scope, "key": grant.key}
        path = f"/dedup/{segment(grant.scope)}/{action}"
        reply = yield from self.ask(Call("POST", path, said, seconds, "hold", about, grant.claim_id), give_up)
        if reply.status != 200:
            raise problem(reply, grant.scope, grant.key)


@dataclass(frozen=True)
class KeyGrant:
    """The right to handle a key, as long as nobody has a higher fence."""

    scope: str
    key: str
    fence: int
    claim_id: str
    claimed_at: float
    """When it was asked for, by this machine's monotonic clock: the lease has begun after it."""


def step_path(run: str, step: str, action: str | None = None) -> str:
    """Of a step, or of something that is done with it."""
    path = f"/runs/{segment(run)}/steps/{segment(step)}"
    return f"{path}/{action}" if action else path


def ended(said: Mapping[str, Any]) -> Ended:
    """From the answer to a claim."""
    at, replayed = read_time(said.get("ended_at")), read_time(said.get("replayed_at"))
    return Ended(said["status"], said["result"], at, said.get("owner"), replayed, not_kept_of(said))


def not_kept_of(said: Mapping[str, Any]) -> NotKept | None:
    """The marker in the place of a result."""
    marker = said.get("result_not_kept")
    return NotKept(marker["reason"], marker.get("detail")) if marker else None


def unkeepable(reply: Reply) -> NotKept | None:
    """Why the server does not keep a result, where that is what it says."""
    said = reply.body if isinstance(reply.body, dict) else {}
    if reply.status == 413:
        sizes = [f"{name} {said[name]}" for name in ("size", "limit") if name in said]
        return NotKept.because("too-large", ", ".join([str(said.get("detail", "")), *sizes]).strip(", "))
    if reply.status == 400 and reply.kind == "malformed-body":
        return NotKept.because("not-encodable", str(said.get("detail", "")))
    return None


def problem(reply: Reply, run: str, step: str) -> Exception:
    """The error that says it."""
    said = reply.body if isinstance(reply.body, dict) else {}
    detail = str(said.get("detail", ""))
    match reply.kind:
        case "step-running":
            return StepRunning(step, said.get("owner"), reply.retry_after or 1.0)
        case "step-waiting":
            return StepWaiting(step, reply.retry_after or 1.0)
        case "outcome-unknown":
            known = {name: said.get(name) for name in ("owner", "claimed_at", "effect_key", "error")}
            return OutcomeUnknown(run, step, said["fence"], **known)
        case "input-changed":
            return InputChanged(detail)
        case "stale-fence":
            return LeaseLost(detail)
        case kind:
            return Refused(reply.status, kind, detail)
