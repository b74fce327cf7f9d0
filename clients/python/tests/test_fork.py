"""Forked processes: children of a preloaded client, and children of the work itself."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from hookonce import Grant, Ledger, LeaseLost, StepContext, StepRunning
from hookonce._protocol import Call, Reply

from .conftest import TOKEN, Service

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

CHILDREN, STEPS = 6, 40


def test_children_of_a_preloaded_client_execute_each_step_once(service: Service, tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("prefork.py")), f"fork-{uuid.uuid4()}", str(CHILDREN), str(STEPS)]
    environment = {**os.environ, "HOOKONCE_URL": service.url, "HOOKONCE_TOKEN": TOKEN}
    ran = subprocess.run([*command, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {
        "wanted": STEPS,
        "executed": STEPS,
        "steps executed": STEPS,
        "answers": {"right": CHILDREN * STEPS},
        "hung": 0,
        "owners": CHILDREN + 1,
    }


@pytest.mark.parametrize("ends", ["return", "exit", "raise"])
def test_a_child_of_the_work_leaves_the_step_to_its_parent(service: Service, ends: str) -> None:
    ledger, name = Ledger(service.url, TOKEN), f"fork-{uuid.uuid4()}"

    def work(ctx: StepContext) -> str:
        pid = os.fork()
        if pid == 0:
            if ends == "exit":
                sys.exit(0)
            if ends == "raise":
                raise RuntimeError("in the child")
            return "of the child"
        assert os.waitpid(pid, 0)[1] == 0
        with pytest.raises(StepRunning):
            ledger.run(name).claim(ctx.step)
        return "of the parent"

    mine = os.getpid()
    try:
        result = ledger.run(name).execute("s", work)
    except BaseException as error:
        if os.getpid() != mine:
            wanted = {"return": LeaseLost, "exit": SystemExit, "raise": RuntimeError}[ends]
            os._exit(0 if type(error) is wanted else 1)
        raise
    if os.getpid() != mine:
        os._exit(2)
    assert result == "of the parent"
    assert ledger.run(name).resume()["s"].result == "of the parent"


def test_answers_to_other_calls_are_none(service: Service) -> None:
    call = Call("POST", "/", about={"run": "r", "step": "s"}, claim_id="c")
    assert call.is_answered_by(Reply(201, {"run": "r", "step": "s", "claim_id": "c", "fence": 1}))
    assert call.is_answered_by(Reply(502, None))
    assert call.is_answered_by(Reply(404, {"type": "about:blank"}))
    for another in ({"run": "q", "step": "s"}, {"run": "r", "step": "t"}, {"run": "r", "step": "s", "claim_id": "d"}):
        assert not call.is_answered_by(Reply(201, another))
    assert not call.is_answered_by(Reply(409, {"run": "r", "step": "t"}))

    # As a mixed-up connection would have it: the answer to another's claim first, then one's own.
    ledger = Ledger(service.url, TOKEN)
    run = ledger.run(f"mixed-{uuid.uuid4()}")
    other = Reply(201, {"run": run.name, "step": "other", "claim_id": "x", "fence": 7, "attempt": 1, "effect_key": "k"})
    send, replies = ledger._connections.send, [other]
    ledger._connections.send = lambda call: replies.pop() if replies else send(call)  # type: ignore[method-assign]
    grant = run.claim("mine")
    assert isinstance(grant, Grant) and grant.step == "mine" and grant.fence == 1 and not replies
