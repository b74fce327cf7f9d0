"""`hookonce mcp serve` as the official Python SDK meets it, in both revisions of the protocol.

Needs HOOKONCE_BIN, and HOOKONCE_URL and HOOKONCE_TOKEN of a running service.
"""

import asyncio
import json
import os

from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters


def server(*more: str) -> StdioServerParameters:
    environment = {name: os.environ[name] for name in ("HOOKONCE_URL", "HOOKONCE_TOKEN")}
    return StdioServerParameters(
        command=os.environ["HOOKONCE_BIN"],
        args=["mcp", "serve", *more],
        env=environment | {"HOOKONCE_DATA_DIR": "/nonexistent"},
    )


async def read_only(mode: str, version: str) -> None:
    async with Client(server(), mode=mode) as client:
        assert client.protocol_version == version, client.protocol_version
        # A client that begins with a revision of its own asks nobody for a name.
        if mode != version:
            assert client.server_info and client.server_info.name == "hookonce"
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert "find_events" in tools and "replay" not in tools, tools.keys()
        assert all(tool.annotations.read_only_hint for tool in tools.values())

        status = await client.call_tool("get_status", {})
        assert not status.is_error and status.structured_content["node"]["version"], status
        assert json.loads(status.content[0].text) == status.structured_content

        said: list[float] = []

        async def progress(done: float, total: float | None, message: str | None) -> None:
            assert total == 2.0 and message
            said.append(done)

        never = {"type": "no.such.type", "timeout_s": 2}
        waited = await client.call_tool("wait_for_event", never, progress_callback=progress)
        assert waited.structured_content["found"] is False, waited
        assert said and said == sorted(said), said

        wrong = await client.call_tool("find_events", {"limit": 0})
        assert wrong.is_error and "between 1 and 100" in wrong.content[0].text, wrong
        refused = await client.call_tool("replay", {"status": "any"})
        assert refused.is_error and "--allow-write" in refused.content[0].text, refused


async def with_writing(mode: str) -> None:
    async with Client(server("--allow-write"), mode=mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        hints = tools["replay"].annotations
        assert hints.destructive_hint and not hints.read_only_hint and not hints.idempotent_hint
        everything = {"status": "any", "since": "1s"}
        refused = await client.call_tool("replay", everything)
        assert refused.is_error and "replay_dry_run" in refused.content[0].text, refused
        counted = await client.call_tool("replay_dry_run", everything)
        assert not counted.is_error and counted.structured_content["counts"]["dry_run"], counted


async def main() -> None:
    for mode, version in [
        ("legacy", "2025-11-25"),
        ("2026-07-28", "2026-07-28"),
        ("auto", "2026-07-28"),
    ]:
        await read_only(mode, version)
        await with_writing(mode)


asyncio.run(main())
