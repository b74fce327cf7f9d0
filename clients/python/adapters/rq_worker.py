"""RQ: a job whose work horse was killed is tried again.

    python adapters/rq_worker.py

The ledger is made before the worker forks its work horses, as is usual. Redis is a fake one.
"""

import os
import subprocess
import threading
import time
from typing import Any

from fakeredis import TcpFakeServer
from redis import Redis
from rq import Queue, Retry, Worker
from world import IS_ONCE, LEASE, charge_at_bank, find_out, main

from hookonce import Ledger
from hookonce.rq import once



class Connection(Redis):
    """The fake Redis tells of its clients in a form that is not understood."""

    def client_info(self, **_: Any) -> Any:
        return {"addr": "127.0.0.1:0"}


ledger = Ledger()


def _charge(customer: str, amount: int) -> str:
    return charge_at_bank(amount)


charge = once(ledger, tool="charge", lease=LEASE, reconcile=find_out)(_charge) if IS_ONCE else _charge


def live() -> None:
    ledger.run("of the worker").resume()  # A connection that the work horses must not share.
    Worker([Queue(connection=Connection(port=int(os.environ["REDIS_PORT"])))]).work(logging_level="ERROR", with_scheduler=False)


def supervise(command: list[str], environment: dict[str, str]) -> None:
    redis = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    threading.Thread(target=redis.serve_forever, daemon=True).start()
    port = redis.server_address[1]
    job = Queue(connection=Redis(port=port)).enqueue("rq_worker.charge", "cus_1", 5, retry=Retry(max=3))
    worker = subprocess.Popen(command, env={**environment, "REDIS_PORT": str(port)}, cwd=os.path.dirname(os.path.abspath(__file__)))
    try:
        deadline = time.monotonic() + 90
        while not (job.is_finished or job.is_failed):
            if worker.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the job was not done: {job.get_status()}")
            time.sleep(0.1)
        assert str(job.return_value()).startswith("charge "), job.get_status()
    finally:
        worker.terminate()
        worker.wait(60)
        redis.shutdown()


if __name__ == "__main__":
    main(__file__, live, supervise)
