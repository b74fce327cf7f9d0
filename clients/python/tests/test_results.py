"""Results: what becomes of those that are no JSON, and of those that can't be kept."""

import datetime
import decimal
import enum
import json
import math
import uuid
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pydantic
import pytest

import hookonce
from hookonce import Ledger, Refused, ResultNotKept, Run, StepContext, StepFailed

from .conftest import TOKEN, Service


class Color(enum.Enum):
    RED = "red"


class Level(str, enum.Enum):
    HIGH = "high"


@dataclass
class Receipt:
    id: uuid.UUID
    amount: decimal.Decimal
    lines: tuple["Receipt", ...] = ()


class Model(pydantic.BaseModel):
    at: datetime.datetime
    receipt: Receipt


class Opaque:
    def __repr__(self) -> str:
        return "opaque"


ID = uuid.UUID(int=1)
AT = datetime.datetime(2026, 11, 27, 10, 0, tzinfo=datetime.timezone.utc)
RECEIPT = {"id": str(ID), "amount": "1.10", "lines": []}

ENCODED: list[tuple[Any, Any]] = [
    (Receipt(ID, decimal.Decimal("1.10"), (Receipt(ID, decimal.Decimal("2")),)), RECEIPT | {"lines": [RECEIPT | {"amount": "2"}]}),
    (Model(at=AT, receipt=Receipt(ID, decimal.Decimal("1.10"))), {"at": "2026-11-27T10:00:00Z", "receipt": RECEIPT}),
    (AT, "2026-11-27T10:00:00+00:00"),
    (AT.date(), "2026-11-27"),
    (datetime.timedelta(minutes=1, milliseconds=500), 60.5),
    (b"\x00\xff", {"base64": "AP8="}),
    (bytearray(b"a"), {"base64": "YQ=="}),
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset({"b", "a"}), ["a", "b"]),
    (ValueError("no such customer"), {"type": "ValueError", "message": "no such customer"}),
    (Color.RED, "red"),
    (Level.HIGH, "high"),
    ({Color.RED: 1, 2: "two", None: 0, True: 1, ID: 3}, {"red": 1, "2": "two", "null": 0, "true": 1, str(ID): 3}),
    (OrderedDict(b=1, a=deque([1, (2, 3)])), {"b": 1, "a": [1, [2, 3]]}),
    (PurePosixPath("/tmp/x"), "/tmp/x"),
    (float("nan"), "NaN"),
    (-math.inf, "-Infinity"),
    (2**70, 2**70),
    ("Grüße 🦄", "Grüße 🦄"),
]


def circle() -> list[Any]:
    round: list[Any] = []
    round.append(round)
    return round


NOT_KEPT: list[tuple[str, Any, str]] = [
    ("an object", Opaque(), "not-encodable"),
    ("one deep within", {"a": [Opaque()]}, "not-encodable"),
    ("a generator", (number for number in range(3)), "not-encodable"),
    ("a circle", circle(), "not-encodable"),
    ("half a character", "\ud83d", "not-encodable"),
    ("two keys that are one", {1: "a", "1": "b"}, "not-encodable"),
    ("a class", Receipt, "not-encodable"),
    ("text that is too large", "x" * 1_100_000, "too-large"),
    ("a call that is too large", ["ü" * 3_000_000], "too-large"),
]


@pytest.fixture
def run(service: Service) -> Iterator[Run]:
    with Ledger(service.url, TOKEN) as ledger:
        yield ledger.run(f"results-{uuid.uuid4()}")


def test_results_are_encoded_by_sound_defaults(run: Run) -> None:
    executed: list[str] = []

    def work(ctx: StepContext) -> list[Any]:
        executed.append(ctx.step)
        return [value for value, _ in ENCODED]

    wanted = [plain for _, plain in ENCODED]
    assert run.execute("s", work) == wanted
    assert run.execute("s", work) == wanted and len(executed) == 1
    assert run.resume()["s"].result == wanted


@pytest.mark.parametrize(("value", "reason"), [case[1:] for case in NOT_KEPT], ids=[case[0] for case in NOT_KEPT])
def test_a_result_that_cant_be_kept_is_done_and_not_executed_again(run: Run, value: Any, reason: str) -> None:
    executed: list[str] = []

    def work(ctx: StepContext) -> Any:
        executed.append(ctx.step)
        ctx.emit("kept.all.the.same", {"step": ctx.step})
        return value

    given = run.execute("s", work)
    assert given is value or given == value, "who executes gets what there is"
    for _ in range(2):
        with pytest.raises(ResultNotKept) as again:
            run.execute("s", work)
        assert again.value.reason == reason
    done = run.outcome("s", work)
    assert len(executed) == 1
    assert (done.status, done.result) == ("done", None) and done.result_not_kept and done.result_not_kept.reason == reason
    assert "Not executed again" in done.message and f"its result was not kept ({reason})" in done.message
    known = run.resume()["s"]
    assert known.status == "done" and known.result_not_kept == done.result_not_kept
    with pytest.raises(ResultNotKept):
        run.execute("s", work)
    assert len(executed) == 1


def test_what_was_too_large_is_said_with_the_limit(run: Run) -> None:
    run.execute("s", lambda _: "x" * 2_000_000)
    done = run.outcome("s", lambda _: "twice")
    assert done.result_not_kept and done.result_not_kept.detail and "1048576" in done.result_not_kept.detail


def test_an_error_that_cant_be_kept_fails_the_step_all_the_same(run: Run) -> None:
    def fails(error: Any) -> Any:
        def work(_: StepContext) -> None:
            raise StepFailed(error)

        return work

    for step, error in [("opaque", Opaque()), ("large", "x" * 1_100_000), ("exception", ValueError("no"))]:
        with pytest.raises(StepFailed):
            run.execute(step, fails(error))
    steps = run.resume()
    assert {state.status for state in steps.values()} == {"failed"}
    assert steps["opaque"].result == "opaque" and steps["exception"].result == {"type": "ValueError", "message": "no"}
    assert steps["large"].result["not_kept"] == "too-large"


def test_a_hook_of_ones_own_goes_before_the_defaults(service: Service) -> None:
    def encode(value: Any) -> Any:
        return {"opaque": True} if isinstance(value, Opaque) else hookonce.encode(value)

    ledger = Ledger(service.url, TOKEN, encode=encode)
    run = ledger.run(f"results-{uuid.uuid4()}")
    assert run.execute("s", lambda _: [Opaque(), {1}]) == [{"opaque": True}, [1]]

    def endless(value: Any) -> Any:
        return Opaque()

    assert isinstance(Ledger(service.url, TOKEN, encode=endless).run(run.name).execute("t", lambda _: Opaque()), Opaque)


@pytest.mark.parametrize(
    ("arguments", "named", "error"),
    [
        (("",), {}, ValueError),
        ((5,), {}, TypeError),
        (("a\nb",), {}, ValueError),
        (("x" * 256,), {}, ValueError),
        (("t",), {"data": Opaque()}, TypeError),
        (("t",), {"data": "\ud83d"}, ValueError),
        (("t",), {"key": ""}, ValueError),
        (("t",), {"key": "k" * 1025}, ValueError),
        (("t",), {"source": 1}, TypeError),
    ],
)
def test_emit_is_checked_when_it_is_called(run: Run, arguments: Any, named: dict[str, Any], error: type[Exception]) -> None:
    done: list[str] = []

    def work(ctx: StepContext) -> str:
        with pytest.raises(error, match="emit 1"):
            ctx.emit(arguments[0], named.pop("data", None), **named)
        ctx.emit("right", {"at": AT})
        done.append("the effect")
        return "done"

    assert run.execute("s", work) == "done" and done == ["the effect"]


def test_emit_takes_what_is_given_as_it_is_then_and_no_more_than_the_server(run: Run) -> None:
    def work(ctx: StepContext) -> list[Any]:
        data = {"n": 1}
        ctx.emit("t", data)
        data["n"] = 2
        for number in range(31):
            ctx.emit("t", number)
        with pytest.raises(ValueError, match="emit_max"):
            ctx.emit("t", 32)
        return [event["data"] for event in ctx.emitted[:2]]

    assert run.execute("s", work) == [{"n": 1}, 0]


def test_an_event_that_the_server_refuses_leaves_the_step_unknown_at_once(run: Run) -> None:
    def work(ctx: StepContext) -> None:
        ctx.emit("t", 1, source="no-such-source")

    with pytest.raises(Refused, match="unknown-source"):
        run.execute("s", work)
    with pytest.raises(hookonce.OutcomeUnknown) as unknown:
        run.execute("s", work, wait=20)
    assert "unknown-source" in json.dumps(unknown.value.error)
