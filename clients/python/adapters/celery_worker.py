"""Celery: a task is acknowledged after it was executed, so that none is lost, and delivered again when its process was killed.

    python adapters/celery_worker.py

The ledger is made before the worker forks its children, as is usual.
"""

import os
import subprocess
import tempfile
import time
from pathlib import Path

from celery import Celery
from world import IS_ONCE, LEASE, charge_at_bank, find_out, main

from hookonce import Ledger
from hookonce.celery import once

folder = Path(os.environ.get("FOLDER") or tempfile.mkdtemp(prefix="hookonce-celery-"))
for name in ("queue", "processed", "control", "results"):
    (folder / name).mkdir(exist_ok=True)

app = Celery("bank", broker="filesystem://", backend=f"file://{folder}/results")
app.conf.broker_transport_options = {
    "data_folder_in": str(folder / "queue"),
    "data_folder_out": str(folder / "queue"),
    "processed_folder": str(folder / "processed"),
    "control_folder": str(folder / "control"),
}
app.conf.worker_enable_remote_control = False

ledger = Ledger()
ledger.run("of the worker").resume()  # A connection that the children must not share.


def charge(customer: str, amount: int) -> str:
    return charge_at_bank(amount)


charge_task = app.task(name="charge", acks_late=True, reject_on_worker_lost=True)(
    once(ledger, lease=LEASE, reconcile=find_out)(charge) if IS_ONCE else charge
)


def live() -> None:
    app.worker_main(["worker", "--pool=prefork", "--concurrency=2", "--loglevel=ERROR", "--without-gossip", "--without-mingle"])


def supervise(command: list[str], environment: dict[str, str]) -> None:
    before = set(folder.glob("results/*"))
    sent = charge_task.delay("cus_1", 5)
    worker = subprocess.Popen(command, env={**environment, "FOLDER": str(folder)})
    try:
        deadline = time.monotonic() + 90
        while not set(folder.glob("results/*")) - before:
            if worker.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the task was not done")
            time.sleep(0.1)
        assert str(sent.get(timeout=10)).startswith("charge ")
    finally:
        worker.terminate()
        worker.wait(60)


if __name__ == "__main__":
    main(__file__, live, supervise)
