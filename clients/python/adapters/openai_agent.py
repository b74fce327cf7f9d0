"""OpenAI Agents SDK: a run that was killed begins again from its input, and the model plans the call once more.

    python adapters/openai_agent.py
"""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, Model, ModelResponse, Runner, Usage, function_tool, set_tracing_disabled
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from world import IS_ONCE, LEASE, charge_at_bank, find_out, main

from hookonce import Ledger
from hookonce.openai_agents import once

set_tracing_disabled(True)
ledger = Ledger()


def charge(customer: str, amount: int) -> str:
    """Charges the customer."""
    return charge_at_bank(amount)


charge_tool = function_tool(once(ledger, lease=LEASE, reconcile=find_out)(charge) if IS_ONCE else charge)


class Plan(Model):
    """Stands for a model: first the call, then the answer."""

    outputs: list[Any]

    async def get_response(self, *arguments: Any, **named: Any) -> ModelResponse:
        said = arguments[1] if len(arguments) > 1 else named["input"]
        called = [item for item in said if isinstance(item, dict) and item.get("type") == "function_call_output"]
        if called:
            assert not IS_ONCE or "Not executed again" in called[0]["output"]
            text = ResponseOutputText(text="It is paid.", type="output_text", annotations=[])
            output: Any = ResponseOutputMessage(id="m", content=[text], role="assistant", status="completed", type="message")
        else:
            output = ResponseFunctionToolCall(
                call_id=os.urandom(4).hex(), name="charge", arguments='{"amount": 5, "customer": "cus_1"}', type="function_call"
            )
        return ModelResponse(output=[output], usage=Usage(), response_id=None)

    def stream_response(self, *arguments: Any, **named: Any) -> AsyncIterator[Any]:
        raise NotImplementedError


def live() -> None:
    agent = Agent("clerk", model=Plan(), tools=[charge_tool])
    with ledger.run(os.environ["RUN"]):
        done = asyncio.run(Runner.run(agent, "Charge 5 to cus_1"))
    assert done.final_output == "It is paid."


if __name__ == "__main__":
    main(__file__, live)
