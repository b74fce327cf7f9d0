"""Standard Webhooks verification of what hookonce relays."""

import base64
import binascii
import hashlib
import hmac
import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ._errors import VerificationFailed


@dataclass(frozen=True)
class RelayedEvent:
    """A request that was verified. The signature covers `id` and `body`; the rest is what hookonce said beside it."""

    id: str
    """The event's id: the same on every attempt and replay."""
    source: str
    key: str
    type: str | None
    attempt: int
    fence: int
    replay: str | None
    body: bytes

    def json(self) -> Any:
        """The body as JSON; `ValueError` where it is none."""
        return json.loads(self.body)


def verify(
    headers: Mapping[str, str],
    body: bytes,
    secrets: str | Iterable[str],
    *,
    tolerance: float = 300,
    now: float | None = None,
) -> RelayedEvent:
    """Checks a relayed request with the destination's `signing_secret`, or several while rotating; raises `VerificationFailed`.

    `body` is the exact bytes that came. `tolerance` is in seconds, on both sides of `now` (unix seconds; default: this machine's clock).
    """
    fields = {name.lower(): value for name, value in headers.items()}
    event_id = fields.get("webhook-id", "")
    if not event_id:
        raise VerificationFailed("malformed_request")
    unix = _timestamp(fields.get("webhook-timestamp"), tolerance, time.time() if now is None else now)
    candidates = _candidates(fields.get("webhook-signature"))
    signed = event_id.encode() + b"." + unix.encode() + b"." + body
    macs = [hmac.digest(_key(secret), signed, hashlib.sha256) for secret in ([secrets] if isinstance(secrets, str) else secrets)]
    if not any([hmac.compare_digest(mac, candidate) for mac in macs for candidate in candidates]):
        raise VerificationFailed("no_match")
    return RelayedEvent(
        id=event_id,
        source=fields.get("hookonce-source", ""),
        key=fields.get("hookonce-event-key", ""),
        type=fields.get("hookonce-event-type"),
        attempt=_number(fields.get("hookonce-attempt")),
        fence=_number(fields.get("hookonce-fence")),
        replay=fields.get("hookonce-replay"),
        body=body,
    )


def _timestamp(text: str | None, tolerance: float, now: float) -> str:
    if text is None:
        raise VerificationFailed("timestamp_missing")
    if not re.fullmatch(r"[0-9]{1,12}", text, re.ASCII):
        raise VerificationFailed("timestamp_malformed")
    if now - int(text) > tolerance:
        raise VerificationFailed("timestamp_too_old")
    if int(text) - now > tolerance:
        raise VerificationFailed("timestamp_in_future")
    return text


def _candidates(text: str | None) -> list[bytes]:
    """Bounded: each secret is compared with each of them."""
    if not text:
        raise VerificationFailed("missing_signature")
    found = []
    for part in text.split(" ")[:16]:
        version, _, encoded = part.partition(",")
        try:
            if version == "v1" and encoded:
                found.append(base64.b64decode(encoded, validate=True))
        except (binascii.Error, ValueError):
            continue
    if not found:
        raise VerificationFailed("malformed_signature")
    return found


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("a signing secret is whsec_ and then base64") from error
    if not key:
        raise ValueError("the signing secret is empty")
    return key


def _number(text: str | None) -> int:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) else 0
