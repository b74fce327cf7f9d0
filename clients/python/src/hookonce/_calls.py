"""Tool calls by their arguments: the name of the step that a call is, and what is done with one that comes again."""

import datetime
import decimal
import hashlib
import json
import math
import re
import threading
from typing import Any, Literal

from ._results import Encode, as_json, encode

Repeat = Literal["once", "ask", "numbered"]
"""What a repeat of the same call is: answered with the first one's result, refused, or another call."""

TOOL_BYTES_MAX = 150
OCCURRENCES_MAX = 10_000

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def canonical_json(value: Any, hook: Encode = encode) -> str:
    """The arguments as RFC 8785 (JSON Canonicalization Scheme) writes them.

    `ValueError` for what has no such form: half a surrogate pair, a number that is not finite, and an integer that a double does not hold
    exactly (RFC 8785, 3.2.2.3), since two of those would be one call.
    """
    return _canonical(as_json(value, hook))


def _canonical(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (int, float)):
        return _number(value)
    if isinstance(value, list):
        return "[" + ",".join(map(_canonical, value)) + "]"
    # 3.2.3: by UTF-16 code units, which is the order of their big-endian bytes.
    names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
    return "{" + ",".join(f"{_text(name)}:{_canonical(value[name])}" for name in names) + "}"


def _text(text: str) -> str:
    text.encode()  # UnicodeEncodeError, a ValueError, for half a surrogate pair.
    return json.dumps(text, ensure_ascii=False)


def _number(value: int | float) -> str:
    """As ECMAScript's Number::toString writes a double (ECMA-262, 6.1.6.1.20)."""
    try:
        double = float(value)
    except OverflowError:
        double = math.inf
    if not math.isfinite(double) or double != value:
        raise ValueError(f"{value} is an integer that not all languages hold exactly: give it as text")
    if double == 0:
        return "0"
    sign, digits, exponent = decimal.Decimal(repr(abs(double))).normalize().as_tuple()
    text, point = "".join(map(str, digits)), len(digits) + int(exponent)
    minus = "-" if double < 0 else ""
    if len(text) <= point <= 21:
        return minus + text + "0" * (point - len(text))
    if 0 < point <= 21:
        return minus + text[:point] + "." + text[point:]
    if -6 < point <= 0:
        return minus + "0." + "0" * -point + text
    fraction = "." + text[1:] if len(text) > 1 else ""
    return f"{minus}{text[0]}{fraction}e{point - 1:+d}"


def call_step(tool: str, arguments: Any, occurrence: int = 1, hook: Encode = encode) -> str:
    """The name of the step that a call is: its tool, and the SHA-256 of its arguments' canonical JSON."""
    if not 1 <= len(tool.encode()) <= TOOL_BYTES_MAX or any(ord(sign) < 32 or 127 <= ord(sign) < 160 for sign in tool):
        raise ValueError(f"tool: {tool!r} has not 1 to {TOOL_BYTES_MAX} bytes without control characters")
    digest = hashlib.sha256(canonical_json(arguments, hook).encode()).hexdigest()
    return f"call:{tool}:{digest}" + (f"#{occurrence}" if occurrence > 1 else "")


def occurrence_of(step: str, number: int) -> str:
    """The name of the n-th call like this first one."""
    return step if number == 1 else f"{step}#{number}"


def seconds_of(after: str | float | datetime.timedelta) -> float:
    """Of "10m", of a number of seconds, or of a timedelta."""
    if isinstance(after, datetime.timedelta):
        seconds = after.total_seconds()
    elif isinstance(after, str):
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)", after)
        if found is None:
            raise ValueError(f'after: {after!r} is no duration like "10m"')
        seconds = float(found[1]) * _UNITS[found[2]]
    else:
        seconds = float(after)
    if not seconds > 0:
        raise ValueError(f"after: {after!r} is not above 0")
    return seconds


class Occurrences:
    """How often each call was made within one run object."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[str, set[int]] = {}
        self._over: dict[str, int] = {}

    def take(self, step: str) -> int:
        """The number of this call: the lowest that no other has."""
        with self._lock:
            taken = self._taken.setdefault(step, set())
            number = next(number for number in range(1, len(taken) + 2) if number not in taken)
            if number > OCCURRENCES_MAX:
                raise ValueError(f"more than {OCCURRENCES_MAX} calls like this one in the run")
            taken.add(number)
            return number

    def give_back(self, step: str, number: int) -> None:
        """It came to no end: whoever makes the call again means this one."""
        with self._lock:
            self._taken[step].discard(number)

    def first_left(self, step: str) -> int:
        """The first that is not known to be too old."""
        return self._over.get(step, 0) + 1

    def is_over(self, step: str, number: int) -> None:
        """This one ended too long ago, and so did those before it."""
        self._over[step] = max(number, self._over.get(step, 0))
