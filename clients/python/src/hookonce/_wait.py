"""Steps that wait for a webhook, and the event that ends them."""

import base64
import datetime
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ._calls import canonical_json
from ._outcome import Outcome, read_time


@dataclass(frozen=True)
class Arrived:
    """The event that a step waited for."""

    event: str
    """Its id: the same as on every delivery of it."""
    source: str
    type: str | None
    key: str | None
    received_at: datetime.datetime | None
    body: Any
    """Its JSON, or bytes where it is none."""


def wait_step(source: str, event: Mapping[str, Any]) -> str:
    """The name of the step that waits for this."""
    return f"wait:{source}:{hashlib.sha256(canonical_json(event).encode()).hexdigest()}"


def arrived(done: Outcome[Any]) -> Outcome[Any]:
    """With the event in the place of its JSON."""
    said = done.result
    if not isinstance(said, dict):
        return done
    body = said.get("body")
    if isinstance(body, dict) and set(body) == {"base64"} and isinstance(body["base64"], str):
        body = base64.b64decode(body["base64"])
    event = Arrived(
        said["event"], said["source"], said.get("type"), said.get("key"), read_time(said.get("received_at")), body
    )
    return replace(done, result=event)
