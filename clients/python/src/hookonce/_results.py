"""What becomes of results on their way to the ledger: JSON, by a hook for what is none, or a marker that there was one."""

import base64
import dataclasses
import datetime
import decimal
import enum
import json
import math
import os
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any

Encode = Callable[[Any], Any]
"""Makes something that is closer to JSON of a value that is none, or raises `TypeError`."""

DEPTH_MAX = 100
"""Of lists and objects within each other; the server's parser takes 127."""
DETAIL_MAX = 1000


@dataclass(frozen=True)
class NotKept:
    """Why a result was not kept, though its step is done."""

    reason: str
    """`too-large` or `not-encodable`."""
    detail: str | None = None

    @staticmethod
    def because(reason: str, detail: str) -> "NotKept":
        """With as much of the detail as the ledger takes."""
        return NotKept(reason, detail.encode("utf-8", "replace").decode()[:DETAIL_MAX])


def encode(value: Any) -> Any:
    """The default of `Ledger(encode=…)`, for one value that is no JSON by itself; what it gives may hold further ones.

    Dataclasses, attrs and pydantic models become objects; dates and times their ISO 8601 text, and durations seconds; Decimal, UUID and
    paths text; bytes `{"base64": …}`; enums their value; sets lists in a fixed order; exceptions `{"type", "message"}`. Others raise
    `TypeError`. A hook of your own handles what it knows and returns `hookonce.encode(value)` for the rest.
    """
    match value:
        case enum.Enum():
            return value.value
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case datetime.timedelta():
            return value.total_seconds()
        case decimal.Decimal() | uuid.UUID():
            return str(value)
        case bytes() | bytearray() | memoryview():
            return {"base64": base64.b64encode(value).decode()}
        case BaseException():
            return {"type": type(value).__name__, "message": str(value)}
        case os.PathLike():
            return os.fsdecode(value)
        case Mapping():
            return dict(value)
        case deque():
            return list(value)
        case Set():
            return sorted(map(as_json, value), key=lambda item: json.dumps(item, sort_keys=True))
    return _fields_of(value)


def _fields_of(value: Any) -> Any:
    """Of classes that say what their fields are."""
    if isinstance(value, type):
        raise TypeError(f"{value!r} is a class")
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "__attrs_attrs__"):
        return {field.name: getattr(value, field.name) for field in value.__attrs_attrs__}
    if callable(dump := getattr(value, "model_dump", None)):
        # Its own hook for JSON, or its fields where it has none for one of them.
        try:
            return dump(mode="json")
        except Exception:
            return dump()
    if callable(listed := getattr(value, "tolist", None)):
        return listed()
    raise TypeError(f"{type(value).__qualname__} is no JSON: return something that is, or give the ledger a hook (`encode`)")


def as_json(value: Any, hook: Encode = encode) -> Any:
    """The value as every later caller will see it. `TypeError` or `ValueError` where it is none that JSON can carry."""
    return _walk(value, hook, 0)


def _walk(value: Any, hook: Encode, depth: int) -> Any:
    if depth > DEPTH_MAX:
        raise ValueError(f"more than {DEPTH_MAX} lists and objects within each other")
    if value is None or value is True or value is False:
        return value
    if isinstance(value, enum.Enum):
        return _walk(hook(value), hook, depth + 1)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _number(float(value))
    if isinstance(value, dict):
        named = [(_key(key, hook), _walk(item, hook, depth + 1)) for key, item in value.items()]
        found = dict(named)
        if len(found) != len(named):
            raise ValueError("two keys that are one in JSON, as 1 and '1' are")
        return found
    if isinstance(value, (list, tuple)):
        return [_walk(item, hook, depth + 1) for item in value]
    # A hook that answers with what it was given would never come to an end: each turn is a level.
    return _walk(hook(value), hook, depth + 1)


def _number(value: float) -> float | str:
    """JSON has no number for these; their names are those of JavaScript and of protobuf's JSON."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _key(key: Any, hook: Encode) -> str:
    plain = _walk(key, hook, 0)
    if isinstance(plain, str):
        return plain
    if plain is None or isinstance(plain, (bool, int, float)):
        return json.dumps(plain)
    raise TypeError(f"{key!r} is no key that JSON has")


def to_bytes(value: Any) -> bytes:
    """Compact JSON of what is JSON already. `ValueError` where it holds half a surrogate pair."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def kept(value: Any, hook: Encode) -> tuple[Any, NotKept | None]:
    """The value as JSON; or as it is, and why it can't be kept. Never an error: what was returned was done."""
    try:
        plain = as_json(value, hook)
        to_bytes(plain)
        return plain, None
    except Exception as error:
        # RecursionError is among them, and whatever a hook or a property raises.
        return value, NotKept.because("not-encodable", f"{type(error).__name__}: {error}")
