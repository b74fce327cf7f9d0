"""What the adapters' examples share: a world that counts, and an agent that is killed between the effect and its record.

Each example is a program that charges once. Its first life is killed (kill -9) when the world has charged and nobody has recorded it; then
it is started again, as a supervisor would. That is done twice: without hookonce, and with the adapter.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "examples"))

from service import hookonce as service  # noqa: E402

from hookonce import Done, LostStep, NotExecuted, current_step  # noqa: E402

LEASE = 2.0
"""Seconds. Who is killed can't say so: the next life waits until the lease is over."""
LIVES_MAX = 4
IS_ONCE = os.environ.get("ONCE") == "yes"
"""With the adapter, or without."""


class Bank(BaseHTTPRequestHandler):
    """Charges whenever it is told to, as often as it is told to, and lists what it did."""

    charges: list[dict[str, Any]] = []
    changing = threading.Lock()

    def do_POST(self) -> None:
        charge = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.changing:
            self.charges.append(charge)
            number = len(self.charges)
        self.answer({"receipt": f"charge {number}"})

    def do_GET(self) -> None:
        with self.changing:
            found = [f"charge {number}" for number, charge in enumerate(self.charges, 1) if charge["key"] == self.path[1:]]
        self.answer({"receipt": found[0] if found else None})

    def answer(self, said: Any) -> None:
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def charge_at_bank(amount: int) -> str:
    """The effect. The first who has it dies of it."""
    key = current_step().effect_key if IS_ONCE else str(uuid.uuid4())
    said = _ask("/", json.dumps({"amount": amount, "key": key}).encode())
    mark = Path(os.environ["DEATH"])
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return str(said["receipt"])


def find_out(lost: LostStep) -> Done | NotExecuted:
    """What came of a charge whose process died: the bank knows, by the key."""
    receipt = _ask(f"/{lost.effect_key}")["receipt"]
    return Done(receipt, evidence="the bank lists it") if receipt else NotExecuted("the bank has no such charge")


def _ask(path: str, body: bytes | None = None) -> Any:
    with urllib.request.urlopen(urllib.request.Request(os.environ["BANK"] + path, body), timeout=10) as answer:
        return json.load(answer)


def show(program: str, supervise: Callable[[list[str], dict[str, str]], None] | None = None) -> None:
    """Runs the example in both ways, and fails where that is not what it is to show."""
    bank = ThreadingHTTPServer(("127.0.0.1", 0), Bank)
    threading.Thread(target=bank.serve_forever, daemon=True).start()
    counted = {}
    with service():
        for once in ("no", "yes"):
            Bank.charges.clear()
            name = str(uuid.uuid4())
            death = Path(os.environ.get("TMPDIR", "/tmp")) / f"hookonce-example-{name}"
            environment = {"ONCE": once, "RUN": name, "BANK": f"http://127.0.0.1:{bank.server_port}", "DEATH": str(death)}
            (supervise or until_it_ends)([sys.executable, program, "live"], {**os.environ, **environment})
            if not death.exists():
                raise SystemExit("it was never killed")
            death.unlink()
            counted[once] = len(Bank.charges)
    print(f"{Path(program).stem}: charged {counted['no']} times without, {counted['yes']} times with hookonce (wanted: 1)")
    if counted != {"no": 2, "yes": 1}:
        raise SystemExit("that is not what this example is to show")


def until_it_ends(command: list[str], environment: dict[str, str]) -> None:
    """A supervisor: starts the program again until it ends well."""
    for _ in range(LIVES_MAX):
        if (status := subprocess.run(command, env=environment, stdout=subprocess.DEVNULL).returncode) == 0:
            return
        if status != -signal.SIGKILL:
            break
    raise SystemExit(f"{command}: {status}")


def main(program: str, live: Callable[[], None], supervise: Any = None) -> None:
    """`live` in the processes that are killed, and what starts them in all others."""
    if sys.argv[1:] == ["live"]:
        live()
    else:
        show(program, supervise)
