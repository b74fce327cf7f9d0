"""MCP: a server whose tool was killed is started again by its client, which calls once more.

    python adapters/mcp_server.py
"""

import asyncio
import os
import sys

from mcp import Client, StdioServerParameters
from mcp.server import MCPServer
from world import IS_ONCE, LEASE, charge_at_bank, find_out, main

from hookonce import Ledger
from hookonce.mcp import once

ledger = Ledger()
server = MCPServer("bank")


def charge(order: str, amount: int) -> str:
    """Charges for the order."""
    return charge_at_bank(amount)


server.tool()(once(ledger, run="order {order}", lease=LEASE, reconcile=find_out)(charge) if IS_ONCE else charge)


def live() -> None:
    server.run()


async def call(command: list[str], environment: dict[str, str]) -> str:
    """One client, with a server of its own."""
    parameters = StdioServerParameters(command=command[0], args=command[1:], env=environment)
    async with Client(parameters) as client:
        answer = await client.call_tool("charge", {"order": environment["RUN"], "amount": 5})
        assert not answer.is_error, answer
        return str(answer.content[0])


def supervise(command: list[str], environment: dict[str, str]) -> None:
    for _ in range(3):
        try:
            told = asyncio.run(asyncio.wait_for(call(command, environment), 60))
        except Exception as error:
            # The server is gone: again, as agents do.
            print(f"called again after {type(error).__name__}", file=sys.stderr)
            continue
        assert environment["ONCE"] == "no" or "Not executed again" in told, told
        return
    raise SystemExit("it was never answered")


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    main(__file__, live, supervise)
