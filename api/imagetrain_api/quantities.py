"""Strict parsing of Kubernetes quantities and of durations."""

import decimal
import re

# Kubernetes API reference, "Quantity": decimal SI, binary SI and exponent forms; here none below 0, and no exponent
# of more than two digits.
PATTERN = r"\+?([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?[0-9]{1,2})?"
RULE = "a Kubernetes quantity of at least 0, such as 2, 500m or 16Gi"
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
# Go's time.ParseDuration without the units below one millisecond.
_DURATION = re.compile(r"(?:([0-9]+)h)?(?:([0-9]+)m(?!s))?(?:([0-9]+(?:\.[0-9]+)?)s)?(?:([0-9]+)ms)?")


def parse_quantity(text: str) -> decimal.Decimal:
    """Return the value of a non-negative Kubernetes quantity such as `500m`, `2`, `16Gi` or `1e3`.

    Raises:
        ValueError: its text is the broken rule, fit to follow "must be".
    """
    match = re.fullmatch(PATTERN, text)
    if not match:
        raise ValueError(RULE)
    number, suffix = decimal.Decimal(match[1]), match[2] or ""
    if suffix in _BINARY:
        return number * decimal.Decimal(1024) ** _BINARY[suffix]
    if suffix in _DECIMAL:
        return number.scaleb(_DECIMAL[suffix])
    return number.scaleb(int(suffix[1:]))


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as `90s`, `1h30m` or `250ms`.

    Raises:
        ValueError: its text is the broken rule, fit to follow "must be".
    """
    match = _DURATION.fullmatch(text)
    if not text or not match or not any(match.groups()):
        raise ValueError("a duration such as 90s, 1h30m or 250ms")
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
