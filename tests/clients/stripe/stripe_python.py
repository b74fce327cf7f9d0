"""Stripe's own Python library against an API behind a gateway: what the gateway refuses is an error there, never a success.

`HOOKONCE_TEST_SERVICE` says where the gateway is, and at which port the API behind it is to be.
"""

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import stripe


class Api(BaseHTTPRequestHandler):
    """Executes whatever reaches it. A customer's description says how it is answered."""

    protocol_version = "HTTP/1.1"
    executed: Counter[str] = Counter()
    counting = threading.Lock()
    let_go = threading.Event()

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers.get("content-length", 0))).decode())
        (fate,) = form["description"]
        with self.counting:
            self.executed[fate] += 1
            number = sum(self.executed.values())
        assert "idempotency-key" not in self.headers
        if fate == "lost":
            self.close_connection = True
            return
        if fate == "slow":
            self.let_go.wait(30)
        status = int(fate) if fate.isdecimal() else 200
        said = {"id": f"cus_{number}", "object": "customer", "description": fate}
        body = json.dumps(said if status == 200 else {"error": {"type": "api_error", "message": "of a balancer"}}).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def refused(call: Callable[[], object], kind: type[stripe.StripeError], status: int, code: str) -> stripe.StripeError:
    try:
        said = call()
    except stripe.StripeError as error:
        assert type(error) is kind, (type(error), error)
        assert error.http_status == status and error.json_body["error"]["code"] == code, error.json_body
        assert error.json_body["type"] == "urn:hookonce:problem:" + {"idempotency_key_in_use": "in-progress"}.get(code, code.replace("_", "-"))
        assert error.user_message, error
        return error
    raise AssertionError(f"no error, but {said}")


def main() -> None:
    place = json.loads(os.environ["HOOKONCE_TEST_SERVICE"])["gateways"]["stripe-python"]
    api = ThreadingHTTPServer(("127.0.0.1", place["upstream_port"]), Api)
    threading.Thread(target=api.serve_forever, daemon=True).start()

    def client(retries: int) -> stripe.StripeClient:
        return stripe.StripeClient("sk_test_shop", base_addresses={"api": place["url"]}, max_network_retries=retries)

    def create(description: str, key: str, retries: int = 2) -> stripe.Customer:
        return client(retries).v1.customers.create({"description": description}, {"idempotency_key": key})

    first, again = create("ok", "ok"), create("ok", "ok")
    assert first.id == again.id and Api.executed["ok"] == 1, Api.executed
    refused(lambda: create("another", "ok"), stripe.IdempotencyError, 400, "key_reused")
    assert Api.executed["another"] == 0

    # The answer is lost. What came of it is not known, and nothing is executed again, however often it is asked.
    for _ in range(2):
        error = refused(lambda: create("lost", "lost"), stripe.IdempotencyError, 400, "outcome_unknown")
        assert error.json_body["step"] == "lost" and error.json_body["fence"] == 1
        assert error.headers["link"].endswith('rel="describedby"'), error.headers
    # A balancer's 504 and 502 say no more. The library sends again by itself, and is told.
    for status in ("504", "502"):
        refused(lambda status=status: create(status, status), stripe.IdempotencyError, 400, "outcome_unknown")
    assert [Api.executed[fate] for fate in ("lost", "504", "502")] == [1, 1, 1], Api.executed
    # At 503 nothing was done, and the library may try three times.
    try:
        create("503", "503")
        raise AssertionError("no error")
    except stripe.APIError as error:
        assert error.http_status == 503 and Api.executed["503"] == 3, Api.executed

    # One that is on its way: an error for who does not send again, its answer for who does.
    answers: list[str] = []
    under_way = threading.Thread(target=lambda: answers.append(create("slow", "slow").id))
    under_way.start()
    while not Api.executed["slow"]:
        time.sleep(0.01)
    refused(lambda: create("slow", "slow", retries=0), stripe.APIError, 409, "idempotency_key_in_use")
    threading.Timer(0.3, Api.let_go.set).start()
    answers.append(create("slow", "slow", retries=8).id)
    under_way.join()
    assert len(set(answers)) == 1 and Api.executed["slow"] == 1, (answers, Api.executed)


if __name__ == "__main__":
    main()
