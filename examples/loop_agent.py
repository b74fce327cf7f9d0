"""An agent as a plain loop, as frameworks like LangGraph run it: ask the model, call the tool that it wants, until it has an answer.

    python examples/loop_agent.py

A model does not say the same thing twice. So what it said is a step as well: after a crash the loop is played again from what is recorded,
comes to the same calls under the same names, and goes on. Here the process "crashes" after each turn in turn, in all possible places.
"""

import asyncio
import random
import uuid
from typing import Any

from service import hookonce

from hookonce import Ledger, StepContext

Message = dict[str, Any]

asked = 0
weather_asked: list[str] = []
emails: list[str] = []


class Crash(BaseException):
    """The process dies. No handler of errors sees it, as none would see a kill -9."""


async def model(messages: list[Message]) -> Message:
    """Stands for a language model: it is paid by the call, and each time words things differently."""
    global asked
    asked += 1
    mood = random.choice(["gladly", "of course", "right away"])
    match len([message for message in messages if message["role"] == "tool"]):
        case 0:
            return {"role": "assistant", "text": mood, "tool": "weather", "arguments": {"city": random.choice(["Oslo", "Rome"])}}
        case 1:
            return {"role": "assistant", "text": mood, "tool": "send_email", "arguments": {"text": messages[-1]["text"]}}
        case _:
            return {"role": "assistant", "text": f"{mood}: done", "tool": None, "arguments": {}}


async def weather(effect_key: str, city: str) -> str:
    weather_asked.append(city)
    return f"sunny in {city}"


async def send_email(effect_key: str, text: str) -> str:
    emails.append(text)
    return f"sent under {effect_key}"


TOOLS = {"weather": weather, "send_email": send_email}


def make_loop(ledger: Ledger) -> Any:
    @ledger.step("think:{turn}")
    async def think(ctx: StepContext, turn: int, messages: list[Message]) -> Message:
        return await model(messages)

    @ledger.step("act:{turn}:{tool}", input=lambda turn, tool, arguments: arguments)
    async def act(ctx: StepContext, turn: int, tool: str, arguments: dict[str, Any]) -> str:
        return await TOOLS[tool](ctx.effect_key, **arguments)

    async def loop(question: str, crash_after: int) -> list[Message]:
        """Dies after so many steps of the loop."""
        left = crash_after
        messages: list[Message] = [{"role": "user", "text": question}]
        for turn in range(10):
            said = await think(turn, messages)
            messages.append(said)
            if (left := left - 1) == 0:
                raise Crash
            if said["tool"] is None:
                return messages
            result = await act(turn, said["tool"], said["arguments"])
            messages.append({"role": "tool", "text": result})
            if (left := left - 1) == 0:
                raise Crash
        raise RuntimeError("the model does not come to an end")

    return loop


async def main() -> None:
    name = f"agent-{uuid.uuid4()}"
    crashes = 0
    async with Ledger() as ledger:
        loop = make_loop(ledger)
        for crash_after in [1, 2, 3, 4, 0]:
            with ledger.run(name) as run:
                await run.aresume()
                try:
                    messages = await loop("Mail me the weather", crash_after)
                except Crash:
                    crashes += 1
    print(f"{crashes} crashes; the model was asked {asked} times, {len(weather_asked)} forecast, {len(emails)} email: {messages[-1]['text']}")
    if (crashes, asked, len(weather_asked), len(emails)) != (4, 3, 1, 1):
        raise SystemExit("something was done twice, or not at all")


if __name__ == "__main__":
    with hookonce():
        asyncio.run(main())
