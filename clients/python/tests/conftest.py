"""A real hookonce for the tests: the one that HOOKONCE_TEST_SERVICE describes (tests/clients.rs), or one of their own with its own Postgres, from
the binary at HOOKONCE_BIN or the repository's debug build."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

TOKEN = "test-token"
SECRET = "whsec_aG9va29uY2UtY29uZm9ybWFuY2Utc2VjcmV0"
ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Service:
    url: str
    handler_ports: dict[str, int]
    binary: str
    environment: dict[str, str]
    folder: Path

    def command(self, *arguments: str) -> str:
        done = subprocess.run(
            [self.binary, *arguments], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def running(binary: str, described: dict[str, Any]) -> Service:
    folder = Path(described["folder"])
    environment = {"PATH": os.environ["PATH"], "HOOKONCE_DATA_DIR": str(folder / "data"), "HOOKONCE_TOKEN": TOKEN}
    return Service(described["url"], described["handler_ports"], binary, environment, folder)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def config(ports: dict[str, int]) -> str:
    text = f'[ingress]\nbind = "127.0.0.1:0"\n[admin]\nbind = "127.0.0.1:0"\ntoken = "{TOKEN}"\n[relay]\npoll_interval = "20ms"\n'
    for name, port in ports.items():
        text += f'[destinations.{name}]\nurl = "http://127.0.0.1:{port}/webhooks"\nsigning_secret = "{SECRET}"\n'
        text += 'retry = { base = "10ms", cap = "100ms" }\n'
        text += f'[[routes]]\nsource = "ledger"\ntypes = ["{name}.*"]\ndestination = "{name}"\n'
    return text


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    binary = os.environ.get("HOOKONCE_BIN") or str(ROOT / "target/debug/hookonce")
    if not Path(binary).exists():
        pytest.exit(f"no hookonce at {binary}: build it, or set HOOKONCE_BIN", returncode=1)
    if described := os.environ.get("HOOKONCE_TEST_SERVICE"):
        yield running(binary, json.loads(described))
        return
    folder = Path(tempfile.mkdtemp(prefix="hookonce-python-"))
    folder.chmod(0o755)
    ports = {"fastapi": free_port(), "flask": free_port()}
    (folder / "hookonce.toml").write_text(config(ports))
    environment = {"PATH": os.environ["PATH"], "HOOKONCE_DATA_DIR": str(folder / "data"), "HOOKONCE_TOKEN": TOKEN}
    with open(folder / "log", "w") as log:
        process = subprocess.Popen([binary, "serve"], cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        waited = subprocess.run([binary, "ready", "--wait", "60s"], cwd=folder, env=environment, capture_output=True, text=True)
        assert waited.returncode == 0, waited.stderr + (folder / "log").read_text()
        address = (folder / "data/admin.address").read_text().strip()
        yield Service(f"http://{address}", ports, binary, environment, folder)
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)
