"""Tool calls by their arguments, the identity of decorated steps, and how a caller tells a replay."""

import asyncio
import datetime
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hookonce import (
    InputChanged,
    Ledger,
    NotExecuted,
    OutcomeUnknown,
    RepeatRefused,
    Run,
    StepContext,
    StepFailed,
    call_step,
    canonical_json,
)
from hookonce._calls import seconds_of

from .conftest import TOKEN, Service

SHARED = json.loads((Path(__file__).parents[2] / "conformance.json").read_text())


@pytest.fixture
def ledger(service: Service) -> Iterator[Ledger]:
    with Ledger(service.url, TOKEN, owner="worker-7") as ledger:
        yield ledger


@pytest.fixture
def run(ledger: Ledger) -> Run:
    return ledger.run(f"calls-{uuid.uuid4()}")


class Tool:
    """Charges, and says how often it did."""

    def __init__(self) -> None:
        self.executed = 0

    def __call__(self, _: StepContext) -> str:
        self.executed += 1
        return f"charge {self.executed}"


ARGUMENTS = {"customer": "cus_1", "amount": 500}


@pytest.mark.parametrize("case", SHARED["calls"], ids=[case["name"] for case in SHARED["calls"]])
def test_a_call_has_the_name_that_all_clients_give_it(case: dict[str, Any]) -> None:
    assert canonical_json(case["arguments"]) == case["canonical"]
    assert call_step(case["tool"], case["arguments"], case.get("occurrence", 1)) == case["step"]


@pytest.mark.parametrize("case", SHARED["calls_refused"], ids=[case["name"] for case in SHARED["calls_refused"]])
def test_arguments_that_would_be_two_calls_under_one_name_are_refused(run: Run, case: dict[str, Any]) -> None:
    tool = Tool()
    with pytest.raises(ValueError):
        run.call(case["tool"], json.loads(case["arguments_text"]), tool)
    assert tool.executed == 0


@pytest.mark.parametrize("tool", ["", "t" * 151, "a\nb"])
def test_a_tools_name_is_checked_before_anything_is_asked(run: Run, tool: str) -> None:
    with pytest.raises(ValueError, match="tool"):
        run.call(tool, {}, Tool())
    assert run.resume() == {}


def test_once_answers_a_planned_repeat_with_the_first_result(ledger: Ledger, run: Run) -> None:
    tool = Tool()
    first = run.call("charge", ARGUMENTS, tool)
    assert (first.result, first.replayed_at, first.message) == ("charge 1", None, "Executed now.")
    # Another process, and the model has written the arguments in another order.
    again = ledger.run(run.name).call("charge", dict(reversed(ARGUMENTS.items())), tool)
    assert (again.result, again.owner, tool.executed) == ("charge 1", "worker-7", 1)
    assert again.replayed_at and again.ended_at and again.ended_at <= again.replayed_at
    at = again.ended_at.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert again.message == f"Not executed again: this same call was done at {at} by worker-7; this is its result."
    assert run.call("charge", {**ARGUMENTS, "amount": 501}, tool).result == "charge 2"
    assert run.call("refund", ARGUMENTS, tool).result == "charge 3"


def test_ask_refuses_with_what_was_done_and_lets_somebody_decide(run: Run) -> None:
    tool = Tool()
    assert run.call("charge", ARGUMENTS, tool, repeat="ask").result == "charge 1"
    with pytest.raises(RepeatRefused) as refused:
        run.call("charge", ARGUMENTS, tool, repeat="ask")
    assert (refused.value.tool, refused.value.arguments, refused.value.outcome.result) == ("charge", ARGUMENTS, "charge 1")
    assert refused.value.outcome.ended_at and refused.value.outcome.owner == "worker-7"
    for word in ("Not executed again", "worker-7", '"once"', '"numbered"'):
        assert word in str(refused.value)
    assert run.call("charge", ARGUMENTS, tool).result == "charge 1"
    assert run.call("charge", ARGUMENTS, tool, repeat="numbered").result == "charge 2"


def test_what_a_refusal_says_to_do_again_is_done_again(ledger: Ledger, run: Run) -> None:
    tool = Tool()
    run.call("charge", ARGUMENTS, tool)
    later = ledger.run(run.name)
    with pytest.raises(RepeatRefused):
        later.call("charge", ARGUMENTS, tool, repeat="ask")
    assert later.call("charge", ARGUMENTS, tool, repeat="numbered").result == "charge 2"


def test_numbered_meets_the_same_steps_after_a_restart(ledger: Ledger, run: Run) -> None:
    tool = Tool()

    def plan(run: Run, calls: int) -> list[str]:
        return [run.call("charge", ARGUMENTS, tool, repeat="numbered").result for _ in range(calls)]

    assert plan(run, 2) == ["charge 1", "charge 2"]
    assert plan(ledger.run(run.name), 3) == ["charge 1", "charge 2", "charge 3"]
    assert tool.executed == 3


def test_a_numbered_call_that_came_to_no_end_is_made_again_under_its_number(run: Run) -> None:
    tool = Tool()

    def nothing(_: StepContext) -> str:
        raise NotExecuted("no connection")

    def breaks(_: StepContext) -> str:
        raise RuntimeError("and what happened is not known")

    with pytest.raises(NotExecuted):
        run.call("charge", ARGUMENTS, nothing, repeat="numbered")
    with pytest.raises(RuntimeError):
        run.call("charge", ARGUMENTS, breaks, repeat="numbered")
    with pytest.raises(OutcomeUnknown):
        run.call("charge", ARGUMENTS, tool, repeat="numbered")
    assert tool.executed == 0 and len(run.resume()) == 1


def test_after_executes_again_once_the_result_is_too_old(ledger: Ledger, run: Run) -> None:
    tool = Tool()
    for _ in range(2):
        assert run.call("charge", ARGUMENTS, tool, after="10m").result == "charge 1"
    time.sleep(1.1)
    for _ in range(2):
        assert run.call("charge", ARGUMENTS, tool, after=1.0).result == "charge 2"
    again = ledger.run(run.name).call("charge", ARGUMENTS, tool, after=datetime.timedelta(minutes=10))
    assert again.result == "charge 1" and again.replayed_at
    assert len(run.resume()) == 2 and tool.executed == 2
    assert run.call("charge", ARGUMENTS, tool, after="10m").result == "charge 2"


def test_durations_and_words_are_checked(run: Run) -> None:
    assert [seconds_of(text) for text in ("1ms", "1.5s", "10m", "2h", "1d")] == [0.001, 1.5, 600, 7200, 86400]
    for wrong in ("10", "m", "-1s", "1w", 0, ""):
        with pytest.raises(ValueError):
            run.call("t", {}, Tool(), after=wrong)
    with pytest.raises(ValueError, match="repeat"):
        run.call("t", {}, Tool(), repeat="twice")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one of them"):
        run.call("t", {}, Tool(), repeat="ask", after="1m")


def test_a_failed_call_stays_failed_and_says_since_when(run: Run) -> None:
    def fails(_: StepContext) -> str:
        raise StepFailed("declined")

    with pytest.raises(StepFailed) as first:
        run.call("charge", ARGUMENTS, fails)
    assert first.value.outcome is None
    with pytest.raises(StepFailed) as again:
        run.call("charge", ARGUMENTS, Tool())
    with pytest.raises(StepFailed, match="declined"):
        run.outcome(call_step("charge", ARGUMENTS), Tool())
    assert again.value.error == "declined" and again.value.outcome and again.value.outcome.owner == "worker-7"
    assert "it failed" in again.value.outcome.message


def test_24_equal_calls_at_once_share_one_execution(ledger: Ledger, run: Run) -> None:
    executed: list[str] = []

    async def charge(ctx: StepContext) -> str:
        executed.append(ctx.effect_key)
        await asyncio.sleep(0.3)
        return "charged"

    async def main() -> list[Any]:
        async with ledger:
            return await asyncio.gather(*(run.acall("charge", ARGUMENTS, charge) for _ in range(24)))

    outcomes = asyncio.run(main())
    assert {outcome.result for outcome in outcomes} == {"charged"} and len(executed) == 1
    assert len([outcome for outcome in outcomes if outcome.replayed_at is None]) == 1


# ---- Decorated steps -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Order:
    id: str
    amount: int


def test_a_step_without_a_name_is_its_function_and_all_arguments(ledger: Ledger, run: Run) -> None:
    executed: list[Any] = []

    @ledger.step()
    def book(ctx: StepContext, place: str, seat: Any, *, client: object = None) -> str:
        executed.append((place, seat))
        return f"{place}/{seat}"

    calls = [("1:2", "3"), ("1", "2:3"), ("1", 3), ("1", "3"), ("1", None), ("1", ["3"]), ("1", Order("3", 1))]
    with run:
        for _ in range(2):
            # What is no JSON, like a client, makes no other step.
            assert [book(*call, client=object()) for call in calls] == [f"{place}/{seat}" for place, seat in calls]
    assert executed == calls
    assert all(name.startswith("book:") and len(name) == 69 for name in run.resume())


def test_names_that_are_joined_of_arguments_do_not_collide(ledger: Ledger, run: Run) -> None:
    @ledger.step("book:{place}:{seat}")
    def book(ctx: StepContext, place: str, seat: str) -> str:
        return f"{place}/{seat}"

    with run:
        assert (book("1:2", "3"), book("1", "2:3"), book("1", "2")) == ("1:2/3", "1/2:3", "1/2")
    names = set(run.resume())
    assert len(names) == 3 and "book:1:2" in names


def test_other_arguments_under_one_name_are_refused_and_input_narrows_what_counts(ledger: Ledger, run: Run) -> None:
    @ledger.step("charge:{order.id}")
    def charge(ctx: StepContext, order: Order, note: str = "") -> int:
        return order.amount

    @ledger.step("refund:{order.id}", input=lambda order, note="": order.amount)
    def refund(ctx: StepContext, order: Order, note: str = "") -> int:
        return order.amount

    with run:
        assert charge(Order("1", 5)) == charge(Order("1", 5), "") == 5
        with pytest.raises(InputChanged):
            charge(Order("1", 6))
        with pytest.raises(InputChanged):
            charge(Order("1", 5), "another note")
        assert refund(Order("1", 5)) == refund(Order("1", 5), note="another note") == 5
        with pytest.raises(InputChanged):
            refund(Order("1", 6))


def test_a_step_tells_a_replay_from_a_first_execution(ledger: Ledger, run: Run) -> None:
    @ledger.step("charge:{amount}")
    def charge(ctx: StepContext, amount: int) -> int:
        return amount

    @ledger.step("acharge:{amount}")
    async def acharge(ctx: StepContext, amount: int) -> int:
        return amount

    with run:
        first, again = charge.outcome(5), charge.outcome(5)
        afirst, aagain = asyncio.run(acharge.outcome(6)), asyncio.run(acharge.outcome(6))
        run.resume()
        known = charge.outcome(5)
    for done in (first, afirst):
        assert done.replayed_at is None
    for done in (again, aagain, known):
        assert done.replayed_at and done.ended_at and done.owner == "worker-7"
    assert (first.result, again.result, afirst.result, aagain.result) == (5, 5, 6, 6)


def test_methods_are_steps(ledger: Ledger, run: Run) -> None:
    class Shop:
        def __init__(self) -> None:
            self.charged: list[str] = []

        @ledger.step("charge:{order}")
        def charge(self, ctx: StepContext, order: str) -> str:
            self.charged.append(order)
            return f"{order} by {ctx.step}"

        @ledger.step("acharge:{order}")
        async def acharge(self, ctx: StepContext, order: str) -> str:
            self.charged.append(order)
            return order

        @classmethod
        @ledger.step("class:{order}")
        def by_class(cls, ctx: StepContext, order: str) -> str:
            return f"{cls.__name__} {order}"

        @staticmethod
        @ledger.step("static:{order}")
        def static(ctx: StepContext, order: str) -> str:
            return order

    shop = Shop()
    with run:
        for _ in range(2):
            assert shop.charge("1") == Shop.charge(shop, "1") == "1 by charge:1"
            assert asyncio.run(shop.acharge("2")) == "2"
            assert (Shop.by_class("3"), shop.by_class("3"), Shop.static("4")) == ("Shop 3", "Shop 3", "4")
    assert shop.charged == ["1", "2"]


def test_a_function_without_a_place_for_the_context_is_no_step(ledger: Ledger) -> None:
    functions: list[Any] = [lambda: 1, lambda *, ctx: 1, lambda **named: 1]
    for function in functions:
        with pytest.raises(TypeError, match="StepContext"):
            ledger.step("s")(function)
    with pytest.raises(TypeError, match="parentheses"):
        ledger.step(lambda ctx: 1)  # type: ignore[arg-type]


def test_frameworks_see_what_callers_give(ledger: Ledger) -> None:
    import inspect

    @ledger.step("charge:{order}")
    def charge(ctx: StepContext, order: str) -> str:
        """Charges."""
        return order

    assert list(inspect.signature(charge).parameters) == ["order"]
    assert charge.__doc__ == "Charges." and "ctx" not in charge.__annotations__
