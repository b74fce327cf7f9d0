"""LangGraph: the graph's checkpoints are written after a node, so a tool that was killed is called again.

    python adapters/langgraph_agent.py
"""

import os
from typing import Any

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from world import IS_ONCE, LEASE, charge_at_bank, find_out, main

from hookonce import Ledger
from hookonce.langgraph import once

ledger = Ledger()


def charge(customer: str, amount: int) -> str:
    """Charges the customer."""
    return charge_at_bank(amount)


charge_tool = tool(once(ledger, lease=LEASE, reconcile=find_out)(charge) if IS_ONCE else charge)


def live() -> None:
    # As a model does: each time the same plan, under another id.
    plan = [
        AIMessage("", tool_calls=[{"name": "charge", "args": {"amount": 5, "customer": "cus_1"}, "id": os.urandom(4).hex()}]),
        AIMessage("It is paid."),
    ]
    model = GenericFakeChatModel(messages=iter(plan))

    def think(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode([charge_tool]))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition)
    graph.add_edge("tools", "think")
    thread: Any = {"configurable": {"thread_id": os.environ["RUN"]}}
    done = graph.compile().invoke({"messages": [("user", "Charge 5 to cus_1")]}, thread)
    told = [message for message in done["messages"] if isinstance(message, ToolMessage)]
    assert "charge" in told[0].content
    assert not IS_ONCE or "Not executed again" in told[0].content


if __name__ == "__main__":
    main(__file__, live)
