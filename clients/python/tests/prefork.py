"""Children that are forked from a process whose ledger has connections already, and execute the same steps: run by test_fork.py, and by hand

    python tests/prefork.py RUN CHILDREN STEPS FOLDER

which prints what came of it.
"""

import json
import multiprocessing
import os
import random
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hookonce import HookonceError, Ledger, StepContext


def work_of(folder: Path, number: int) -> Any:
    """Leaves a trace of each execution."""

    def work(_: StepContext) -> str:
        with open(folder / "executed", "a") as trace:
            trace.write(f"{number}\n")
        return f"result of {number}"

    return work


def child(ledger: Ledger, name: str, steps: int, folder: Path, seed: int) -> None:
    """Executes all steps, in an order of its own, in four threads."""
    seen: Counter[str] = Counter()

    def some(numbers: list[int]) -> None:
        run = ledger.run(name)
        for number in numbers:
            try:
                result = run.execute(f"step {number}", work_of(folder, number), on_lost="retry")
                seen["right" if result == f"result of {number}" else "wrong"] += 1
            except (HookonceError, KeyError, TypeError) as error:
                seen[type(error).__name__] += 1

    numbers = list(range(steps))
    random.Random(seed).shuffle(numbers)
    threads = [threading.Thread(target=some, args=(numbers[part::4],)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (folder / f"seen-{seed}").write_text(json.dumps({"owner": ledger.protocol.owner, **seen}))


def main(name: str, children: int, steps: int, folder: Path) -> None:
    ledger = Ledger(give_up=10)
    with ThreadPoolExecutor(5) as pool:
        # Five connections are left, unused just now.
        meet = threading.Barrier(5)
        list(pool.map(lambda number: ledger.run(name).execute(f"before {number}", lambda _: meet.wait(10)), range(5)))
    # A thread that keeps using the connections while the children are forked.
    done = threading.Event()

    def busy() -> None:
        while not done.is_set():
            ledger.run(name).resume()

    beside = threading.Thread(target=busy)
    beside.start()
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=child, args=(ledger, name, steps, folder, seed)) for seed in range(children)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        if process.is_alive():
            process.kill()
    done.set()
    beside.join()
    executed = Counter(map(int, (folder / "executed").read_text().split()))
    seen: Counter[str] = Counter()
    owners = {ledger.protocol.owner}
    for path in folder.glob("seen-*"):
        found = json.loads(path.read_text())
        owners.add(found.pop("owner"))
        seen.update(found)
    print(
        json.dumps(
            {
                "wanted": steps,
                "executed": executed.total(),
                "steps executed": len(executed),
                "answers": dict(seen),
                "hung": children - len(list(folder.glob("seen-*"))),
                "owners": len(owners),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
    os._exit(0)
