"""Each adapter with its real library: the examples that are killed, and what the frameworks get of replays, refusals and interrupts.

    pip install -e '.[adapters-test]' && pytest adapters
"""

import asyncio
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from hookonce import Ledger, Run, current_run, current_step
from tests.conftest import TOKEN, Service

HERE = Path(__file__).parent
EXAMPLES = sorted(path.stem for path in HERE.glob("*.py") if path.stem.endswith(("_agent", "_server", "_worker", "_app")))


@pytest.fixture
def ledger(service: Service) -> Ledger:
    return Ledger(service.url, TOKEN)


@pytest.fixture
def run(ledger: Ledger) -> Run:
    return ledger.run(f"adapters-{uuid.uuid4()}")


def test_there_is_an_example_for_each() -> None:
    assert EXAMPLES == [
        "celery_worker",
        "fastapi_app",
        "flask_app",
        "langgraph_agent",
        "mcp_server",
        "openai_agent",
        "pydantic_agent",
        "rq_worker",
    ]


@pytest.mark.parametrize("example", EXAMPLES)
def test_killed_between_effect_and_record_it_happens_twice_without_and_once_with(service: Service, example: str) -> None:
    environment = {**os.environ, "HOOKONCE_URL": service.url, "HOOKONCE_TOKEN": TOKEN, "HOOKONCE_BIN": service.binary}
    command = [sys.executable, str(HERE / f"{example}.py")]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{example}: charged 2 times without, 1 times with hookonce (wanted: 1)" in ran.stdout


class Tool:
    """Counts, and is what each framework makes a tool of."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def charge(self, amount: int) -> str:
        self.keys.append(current_step().effect_key)
        return f"charged {amount}"


def test_langgraph_tells_the_model_and_keeps_what_is_injected_out_of_the_call(ledger: Ledger, run: Run) -> None:
    from typing import Annotated

    from langchain_core.runnables import RunnableConfig
    from langchain_core.tools import InjectedToolCallId, tool

    from hookonce.langgraph import once

    done = Tool()

    @tool
    @once(ledger, repeat="ask")
    def asks(amount: int, call: Annotated[str, InjectedToolCallId], config: RunnableConfig) -> str:
        """Charges."""
        return done.charge(amount)

    @tool
    @once(ledger)
    async def charges(amount: int) -> str:
        """Charges."""
        return done.charge(amount)

    def call(tool: Any, number: int) -> str:
        asked = {"name": tool.name, "args": {"amount": 5}, "id": f"call_{number}", "type": "tool_call"}
        config: Any = {"configurable": {"checkpoint": number}}
        said = asyncio.run(tool.ainvoke(asked, config)) if tool is charges else tool.invoke(asked, config)
        return str(said.content)

    assert set(asks.args) >= {"amount"}
    with run:
        assert call(asks, 1) == "charged 5"
        assert "Not executed again: asks was called before" in call(asks, 2)
        assert call(charges, 1) == "charged 5"
        assert call(charges, 2).startswith("Not executed again: this same call was done at ")
        assert call(charges, 3).endswith("this is its result.\ncharged 5")
    assert len(done.keys) == 2


def test_langgraph_interrupts_give_the_step_back(ledger: Ledger) -> None:
    from langchain_core.messages import AIMessage
    from langchain_core.tools import tool
    from langgraph.checkpoint.memory import MemorySaver
    from langgraph.graph import START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode
    from langgraph.types import Command, interrupt

    from hookonce.langgraph import once

    done = Tool()

    @tool
    @once(ledger)
    def charge(amount: int) -> str:
        """Charges, if a person agrees."""
        return done.charge(amount) if interrupt("charge?") == "yes" else "not charged"

    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode([charge]))
    graph.add_edge(START, "tools")
    compiled = graph.compile(checkpointer=MemorySaver())
    thread: Any = {"configurable": {"thread_id": str(uuid.uuid4())}}
    asked = AIMessage("", tool_calls=[{"name": "charge", "args": {"amount": 5}, "id": "call_1"}])
    assert compiled.invoke({"messages": [asked]}, thread)["__interrupt__"] and not done.keys
    assert compiled.invoke(Command(resume="yes"), thread)["messages"][-1].content == "charged 5"
    steps = ledger.run(f"langgraph:{thread['configurable']['thread_id']}").resume()
    assert [state.status for state in steps.values()] == ["done"] and len(done.keys) == 1


def test_pydantic_ai_tells_the_model_beside_the_result_and_may_ask_to_try_again(ledger: Ledger, run: Run) -> None:
    from pydantic_ai import ModelRetry, RunContext, ToolReturn

    from hookonce.pydantic_ai import once

    done = Tool()

    @once(ledger)
    def charge(ctx: RunContext[None], amount: int) -> dict[str, Any]:
        if not ctx:
            raise ModelRetry("without a context")
        return {"said": done.charge(amount)}

    context: Any = RunContext(deps=None, model=None, usage=None)  # type: ignore[arg-type]
    nothing: Any = None
    with run:
        with pytest.raises(ModelRetry):
            charge(nothing, 7)
        assert charge(context, 5) == {"said": "charged 5"}
        again: Any = charge(context, 5)
    assert isinstance(again, ToolReturn) and again.return_value == {"said": "charged 5"}
    assert "Not executed again" in str(again.content) and len(done.keys) == 1
    assert sorted(state.status for state in run.resume().values()) == ["done", "released"]


def test_openai_agents_hide_the_context_and_tell_the_model(ledger: Ledger, run: Run) -> None:
    from agents import RunContextWrapper, function_tool

    from hookonce.openai_agents import once

    done = Tool()

    @function_tool
    @once(ledger)
    async def charge(ctx: RunContextWrapper[None], amount: int) -> str:
        """Charges."""
        return done.charge(amount)

    assert set(charge.params_json_schema["properties"]) == {"amount"} and charge.name == "charge"


def test_mcp_keeps_to_the_schema_and_refusals_are_errors(ledger: Ledger) -> None:
    from mcp import Client
    from mcp.server import MCPServer

    from hookonce.mcp import once

    done, server, order = Tool(), MCPServer("bank"), str(uuid.uuid4())

    @server.tool()
    @once(ledger, run="order {order}")
    def charge(order: str, amount: int) -> dict[str, str]:
        return {"said": done.charge(amount)}

    @server.tool()
    @once(ledger, run="order {order}", repeat="ask")
    async def asks(order: str, amount: int) -> str:
        return done.charge(amount)

    async def main() -> None:
        async with Client(server) as client:
            for _ in range(2):
                answer = await client.call_tool("charge", {"order": order, "amount": 5})
                assert answer.structured_content == {"said": "charged 5"}
            assert not (await client.call_tool("asks", {"order": order, "amount": 5})).is_error
            refused = await client.call_tool("asks", {"order": order, "amount": 5})
            assert refused.is_error and "Not executed again" in str(refused.content[0])

    asyncio.run(main())
    assert len(done.keys) == 2


def test_celery_and_rq_are_given_what_is_to_be_called_again(ledger: Ledger, run: Run) -> None:
    from celery import Celery
    from rq import Retry

    from hookonce.celery import once as of_celery
    from hookonce.rq import once as of_rq

    app, tries = Celery("bank", broker="memory://", backend="cache+memory://"), Tool()
    app.conf.task_always_eager = True
    app.conf.task_store_eager_result = False

    @app.task(bind=True, max_retries=3, default_retry_delay=0)
    @of_celery(ledger, run=f"order {{order}} {uuid.uuid4()}")
    def charge(task: Any, order: str) -> str:
        if len(tries.keys) < 2:
            tries.charge(1)
            raise task.retry()
        return "charged"

    assert charge.delay("1").get() == "charged"
    assert charge.delay("1").get() == "charged" and len(set(tries.keys)) == 1 and len(tries.keys) == 2

    @of_rq(ledger)
    def job(amount: int) -> Any:
        tries.keys.append("job")
        return Retry(max=1) if len(tries.keys) == 3 else f"charged {amount}"

    with run:
        assert isinstance(job(5), Retry)
        assert job(5) == job(5) == "charged 5" and len(tries.keys) == 4


def test_a_call_without_a_run_says_what_to_write_and_so_do_terms_that_there_are_not(ledger: Ledger) -> None:
    from hookonce.openai_agents import once

    assert current_run() is None
    with pytest.raises(RuntimeError, match="with ledger.run"):
        once(ledger)(lambda amount: amount)(5)
    with pytest.raises(TypeError, match="leese"):
        once(ledger, leese=5)  # type: ignore[call-arg]
