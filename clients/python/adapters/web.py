"""What the examples of FastAPI and Flask share: a hookonce that relays an event to an application that is killed as it handles it."""

import os
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

SECRET = "whsec_aG9va29uY2UtZXhhbXBsZXMtc2VjcmV0"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def supervise(command: list[str], environment: dict[str, str]) -> None:
    """Emits an event, and starts the application again whenever it was killed, until the event is delivered."""
    # A hookonce of its own: the destination is in its configuration.
    environment = {name: value for name, value in environment.items() if name not in ("HOOKONCE_URL", "HOOKONCE_TOKEN")}
    port = free_port()
    destination = f"""
[relay]
poll_interval = "20ms"
[destinations.app]
url = "http://127.0.0.1:{port}/webhooks"
signing_secret = "{SECRET}"
retry = {{ base = "100ms", cap = "500ms" }}
[[routes]]
source = "ledger"
types = ["order.paid"]
destination = "app"
"""
    served = {name: os.environ.pop(name, None) for name in ("HOOKONCE_URL", "HOOKONCE_TOKEN")}
    from service import hookonce

    from hookonce import Ledger

    try:
        with hookonce(destination):
            environment |= {"PORT": str(port), "HOOKONCE_URL": os.environ["HOOKONCE_URL"], "HOOKONCE_TOKEN": os.environ["HOOKONCE_TOKEN"]}
            done = Path(tempfile.gettempdir()) / f"hookonce-example-done-{uuid.uuid4()}"
            environment["HANDLED"] = str(done)
            run = Ledger().run("shop")
            run.execute("order", lambda ctx: ctx.emit("order.paid", {"amount": 5}))
            deadline = time.monotonic() + 60
            application = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
            try:
                while not done.exists():
                    if (status := application.poll()) is not None:
                        if status != -signal.SIGKILL:
                            raise SystemExit(f"the application ended with {status}")
                        application = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
                    if time.monotonic() > deadline:
                        raise SystemExit("the event was not handled")
                    time.sleep(0.05)
                time.sleep(1)  # Would it come once more?
                done.unlink()
            finally:
                application.terminate()
                application.wait(30)
    finally:
        os.environ.update({name: value for name, value in served.items() if value})


def handled() -> None:
    """The application says that the event was answered well."""
    Path(os.environ["HANDLED"]).touch()


__all__ = ["SECRET", "handled", "supervise"]
