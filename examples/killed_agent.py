"""An agent with a plan of 20 tool calls that is killed (kill -9) at random points, started again, and causes each effect once.

    python examples/killed_agent.py [SEED]

The world that it acts on counts, and does not dedup. A step whose agent died in the middle is held; the next life asks the world, by the
step's effect key, whether it happened, and goes on from there.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import uuid
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from service import hookonce

from hookonce import Done, LeaseLost, Ledger, LostStep, NotExecuted, StepContext

TOOLS = ("send_email", "charge_card", "book_flight")
PLAN = [(TOOLS[number % len(TOOLS)], {"customer": number}) for number in range(20)]
LEASE_SECONDS = 1.0
"""Longer than a call to the world may still be on its way after its caller has died: after that, what it has not seen did not happen."""
DEATH_CHANCE = 0.05
LIVES_MAX = 100
LEASE_LOST = 75
"""The exit code of an agent that was too slow, on a busy machine, and stopped."""


class World(BaseHTTPRequestHandler):
    """Does whatever it is told, as often as it is told."""

    effects: list[dict[str, Any]] = []
    changing = threading.Lock()

    def do_POST(self) -> None:
        arguments = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.changing:
            self.effects.append({"tool": self.path[1:], "arguments": arguments, "key": self.headers["idempotency-key"]})
            number = len(self.effects)
        self.answer({"receipt": f"{self.path[1:]}-{number}"})

    def do_GET(self) -> None:
        key = self.path[1:]
        with self.changing:
            found = [f"{effect['tool']}-{number}" for number, effect in enumerate(self.effects, 1) if effect["key"] == key]
        self.answer({"receipt": found[0] if found else None})

    def answer(self, said: Any) -> None:
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except BrokenPipeError:
            pass  # The agent is dead.

    def log_message(self, *_: object) -> None:
        pass


class Mortal(httpx.HTTPTransport):
    """Around each request there is a moment in which the agent may die: before it is sent, and after it was done."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        perhaps_die()
        response = super().handle_request(request)
        perhaps_die()
        return response


def perhaps_die() -> None:
    if random.random() < DEATH_CHANCE:
        os.kill(os.getpid(), signal.SIGKILL)


def agent() -> None:
    """One life: resumes the run, and executes what is left of the plan."""
    world = httpx.Client(base_url=os.environ["WORLD_URL"], transport=Mortal(), trust_env=False)
    ledger = Ledger(transport=Mortal())

    def find_out(lost: LostStep) -> Done | NotExecuted:
        receipt = world.get(f"/{lost.effect_key}").json()["receipt"]
        return Done(receipt, evidence="the world knows the key") if receipt else NotExecuted("the world does not know the key")

    @ledger.step("{number}:{tool}", lease=LEASE_SECONDS, on_lost="hold", reconcile=find_out)
    def call(ctx: StepContext, number: int, tool: str, arguments: dict[str, Any]) -> str:
        ctx.check()
        answer = world.post(f"/{tool}", json=arguments, headers={"idempotency-key": ctx.effect_key})
        return str(answer.json()["receipt"])

    with ledger.run(os.environ["RUN"]) as run:
        run.resume()
        for number, (tool, arguments) in enumerate(PLAN):
            call(number, tool, arguments)


def main(seed: int) -> None:
    chance = random.Random(seed)
    world = ThreadingHTTPServer(("127.0.0.1", 0), World)
    threading.Thread(target=world.serve_forever, daemon=True).start()
    plan = {"RUN": f"trip-{uuid.uuid4()}", "WORLD_URL": f"http://127.0.0.1:{world.server_port}"}
    deaths = 0
    with hookonce():
        for life in range(LIVES_MAX):
            environment = {**os.environ, **plan, "LIFE": str(chance.getrandbits(32))}
            ended = subprocess.run([sys.executable, __file__, "agent"], env=environment)
            if ended.returncode == 0:
                break
            if ended.returncode not in (-signal.SIGKILL, LEASE_LOST):
                raise SystemExit(f"life {life} ended with {ended.returncode}")
            deaths += ended.returncode == -signal.SIGKILL
    counted = Counter((effect["tool"], effect["arguments"]["customer"]) for effect in World.effects)
    wanted = Counter((tool, arguments["customer"]) for tool, arguments in PLAN)
    print(f"{deaths} deaths, {len(World.effects)} effects of {len(PLAN)} steps (seed {seed})")
    if counted != wanted:
        raise SystemExit(f"not once each: {counted - wanted} too many, {wanted - counted} missing")
    if deaths == 0:
        raise SystemExit("it never died: another seed")
    print("each effect happened once")


if __name__ == "__main__":
    if sys.argv[1:] == ["agent"]:
        random.seed(int(os.environ["LIFE"]))
        try:
            agent()
        except LeaseLost:
            sys.exit(LEASE_LOST)
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
