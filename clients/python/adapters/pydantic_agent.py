"""Pydantic AI: a run that was killed begins again from its prompt, and the model plans the call once more.

    python adapters/pydantic_agent.py
"""

import os

from pydantic_ai import Agent, RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from world import IS_ONCE, LEASE, charge_at_bank, find_out, main

from hookonce import Ledger
from hookonce.pydantic_ai import once

ledger = Ledger()


def plan(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Stands for a model: first the call, then the answer."""
    parts = [part for message in messages for part in message.parts]
    if any(isinstance(part, ToolReturnPart) for part in parts):
        assert not IS_ONCE or any("Not executed again" in str(part.content) for part in parts if hasattr(part, "content"))
        return ModelResponse([TextPart("It is paid.")])
    return ModelResponse([ToolCallPart("charge", {"amount": 5, "customer": "cus_1"}, os.urandom(4).hex())])


def charge(ctx: RunContext[None], customer: str, amount: int) -> str:
    """Charges the customer."""
    return charge_at_bank(amount)


agent = Agent(FunctionModel(plan))
agent.tool(once(ledger, lease=LEASE, reconcile=find_out)(charge) if IS_ONCE else charge)


def live() -> None:
    with ledger.run(os.environ["RUN"]):
        assert agent.run_sync("Charge 5 to cus_1").output == "It is paid."


if __name__ == "__main__":
    main(__file__, live)
