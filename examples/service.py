"""A hookonce for the examples: the one at HOOKONCE_URL (with HOOKONCE_TOKEN), or one that is started here and stopped at the end."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONFIG = '[ingress]\nbind = "127.0.0.1:0"\n[admin]\nbind = "127.0.0.1:0"\ntoken = "example-token"\n'


def find_binary() -> str:
    built = Path(__file__).resolve().parents[1] / "target"
    candidates = [os.environ.get("HOOKONCE_BIN"), shutil.which("hookonce"), built / "release/hookonce", built / "debug/hookonce"]
    for candidate in candidates:
        if candidate and Path(candidate).exists():
            return str(candidate)
    raise SystemExit("no hookonce is found: `cargo build` first, or set HOOKONCE_BIN, or HOOKONCE_URL and HOOKONCE_TOKEN of a running one")


@contextmanager
def hookonce(more_config: str = "") -> Iterator[None]:
    """Sets HOOKONCE_URL and HOOKONCE_TOKEN, for this process and its children."""
    if os.environ.get("HOOKONCE_URL") and not more_config:
        yield
        return
    binary = find_binary()
    folder = Path(tempfile.mkdtemp(prefix="hookonce-example-"))
    folder.chmod(0o755)  # As root, Postgres runs as another user.
    (folder / "hookonce.toml").write_text(CONFIG + more_config)
    environment = {**os.environ, "HOOKONCE_DATA_DIR": str(folder / "data")}
    environment.pop("DATABASE_URL", None)
    with open(folder / "log", "w") as log:
        served = subprocess.Popen([binary, "serve"], cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        ready = subprocess.run([binary, "ready", "--wait", "60s"], cwd=folder, env=environment, capture_output=True, text=True)
        if ready.returncode != 0:
            raise SystemExit(ready.stderr + (folder / "log").read_text())
        os.environ["HOOKONCE_URL"] = "http://" + (folder / "data/admin.address").read_text().strip()
        os.environ["HOOKONCE_TOKEN"] = "example-token"
        yield
    finally:
        served.terminate()
        served.wait(60)
        shutil.rmtree(folder, ignore_errors=True)
