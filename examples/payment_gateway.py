"""A payment API without idempotency, behind a gateway that gives it some, hammered by callers who retry and hang up.

    python examples/payment_gateway.py

The API executes whatever reaches it, and breaks off connections before and after it does. Callers give up after a moment and send the same
request again, under the same Idempotency-Key. Where the gateway can't know whether a payment happened it says so and sends nothing again; an
operator, here a function, looks into the API's books and resolves it.
"""

import json
import random
import socket
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from os import environ
from typing import Any
from urllib.parse import quote

import httpx
from service import hookonce

PAYMENTS = 24
CALLERS = 8
TRIES_MAX = 200


class Bank(BaseHTTPRequestHandler):
    """No idempotency: every request that gets through is a payment."""

    protocol_version = "HTTP/1.1"
    payments: Counter[str] = Counter()
    changing = threading.Lock()
    chance = random.Random(7)
    requests = 0

    def do_POST(self) -> None:
        order = json.loads(self.rfile.read(int(self.headers["content-length"])))["order"]
        with self.changing:
            type(self).requests += 1
            fate = self.chance.random()
        if fate < 0.1:
            return self.break_off()  # Nothing was done.
        if fate < 0.2:
            return self.answer(503, {"error": "busy"}, {"retry-after": "0"})
        if fate < 0.3:
            return self.answer(402, {"error": "declined"})
        with self.changing:
            self.payments[order] += 1
        if fate < 0.4:
            return self.break_off()  # All was done, and nobody is told.
        if fate < 0.6:
            time.sleep(0.3)  # Longer than callers wait.
        self.answer(201, {"payment": f"pay-{order}-{self.payments[order]}"})

    def answer(self, status: int, said: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def break_off(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        pass


class Tally:
    """What callers were told in the end, by order."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.answers: dict[str, set[tuple[int, str]]] = {}
        self.sent = self.hung_up = self.resolved = 0


def call(gateway: str, orders: list[str], tally: Tally, chance: random.Random) -> None:
    for order in orders:
        answer = pay(gateway, order, tally, chance)
        with tally.lock:
            tally.answers.setdefault(order, set()).add(answer)


def pay(gateway: str, order: str, tally: Tally, chance: random.Random) -> tuple[int, str]:
    """Sends the same request until there is an answer that is one."""
    for _ in range(TRIES_MAX):
        with tally.lock:
            tally.sent += 1
        try:
            # A connection each, and often no patience at all: hanging up stops nothing that is under way.
            patience = chance.choice([0.05, 0.2, 5.0])
            headers = {"idempotency-key": f"order-{order}", "authorization": "Bearer the-shop"}
            answer = httpx.post(f"{gateway}/payments", json={"order": order}, headers=headers, timeout=patience, trust_env=False)
        except httpx.TransportError:
            with tally.lock:
                tally.hung_up += 1
            continue
        kind = answer.json().get("type", "").rsplit(":", 1)[-1]
        if kind == "outcome-unknown":
            resolve(order, answer.json(), tally)
        elif answer.status_code not in (409, 503):
            return answer.status_code, answer.text
    raise SystemExit(f"{order} came to no end")


def resolve(order: str, unknown: dict[str, Any], tally: Tally) -> None:
    """The operator: is the payment in the bank's books?"""
    with Bank.changing:
        is_paid = Bank.payments[order] > 0
    body: dict[str, Any] = {"expected_fence": unknown["fence"], "outcome": "not-executed", "evidence": "not in the bank's books"}
    if is_paid:
        kept = {"status": 201, "headers": [["content-type", "application/json"]], "body": json.dumps({"payment": f"pay-{order}-1"})}
        body |= {"outcome": "done", "evidence": "in the bank's books", "result": kept}
    step = f"{environ['HOOKONCE_URL']}/v1/runs/{quote(unknown['run'], safe='')}/steps/{quote(unknown['step'], safe='')}"
    token = {"authorization": f"Bearer {environ['HOOKONCE_TOKEN']}"}
    answer = httpx.post(f"{step}/resolve", params={"tenant": "gateway:pay"}, json=body, headers=token, trust_env=False)
    # Two callers may have asked about the same one: the second is refused by its fence.
    if answer.status_code not in (200, 409):
        raise SystemExit(answer.text)
    with tally.lock:
        tally.resolved += answer.status_code == 200


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def main() -> None:
    bank = ThreadingHTTPServer(("127.0.0.1", 0), Bank)
    threading.Thread(target=bank.serve_forever, daemon=True).start()
    port, tally = free_port(), Tally()
    config = f'[gateways.pay]\nbind = "127.0.0.1:{port}"\nupstream = "http://127.0.0.1:{bank.server_port}"\n'
    orders = [str(number) for number in range(PAYMENTS)]
    with hookonce(config):
        # Each order is paid by two callers at once.
        parts = [orders[number % (CALLERS // 2) :: CALLERS // 2] for number in range(CALLERS)]
        threads = [
            threading.Thread(target=call, args=(f"http://127.0.0.1:{port}", part, tally, random.Random(number)))
            for number, part in enumerate(parts)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    paid = sum(status == 201 for answers in tally.answers.values() for status, _ in answers)
    print(
        f"{PAYMENTS} orders, {tally.sent} requests of callers, {tally.hung_up} hung up; {Bank.requests} reached the bank, "
        f"{tally.resolved} resolved by hand; {paid} paid, {max(Bank.payments.values())} time each at most"
    )
    for order in orders:
        told = tally.answers.get(order, set())
        if len(told) != 1 or Bank.payments[order] != sum(status == 201 for status, _ in told):
            raise SystemExit(f"order {order}: told {told}, paid {Bank.payments[order]} times")
    print("each order was paid once or declined for good, and everybody was told the same")


if __name__ == "__main__":
    main()
