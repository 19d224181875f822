"""How numbers are written in the model card and the report."""

import math

_BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def format_bytes(size_bytes: float) -> str:
    """Return a size with three digits and a binary unit: 315024 -> "308 KiB"."""
    for unit in _BYTE_UNITS:
        if size_bytes < 1000 or unit == _BYTE_UNITS[-1]:
            break
        size_bytes /= 1024
    return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{format_digits(size_bytes)} {unit}"


def format_digits(value: float, digits: int = 3) -> str:
    """Return a number rounded to some significant digits, never in exponent form between 0.0001 and a million."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    magnitude = math.floor(math.log10(abs(value)))
    if not -5 < magnitude < 6:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(0, digits - 1 - magnitude)}f}"


def format_percent(share: float) -> str:
    """Return a share as a percentage with two decimals."""
    return f"{100 * share:.2f} %"


def format_share(share: float) -> str:
    """Return a share of time as a percentage with one decimal; a small one is told as such."""
    return "< 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def format_milliseconds(milliseconds: float) -> str:
    """Return a latency in ms, three digits: so that those of a table compare."""
    return f"{format_digits(milliseconds)} ms"


def format_latency(milliseconds: float) -> str:
    """Return a latency that stands alone, in ms or µs, three digits."""
    return f"{format_digits(1000 * milliseconds)} µs" if 0 < milliseconds < 0.1 else format_milliseconds(milliseconds)


def format_seconds(seconds: float) -> str:
    """Return a duration: "820 ms", "12.3 s", "4 min 5 s" or "2 h 3 min"."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{format_digits(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def strip_zeros(text: str) -> str:
    """Return a formatted number without zeros that only show its digits: "0.9900" -> "0.99", "1.000e-07" -> "1e-07"."""
    mantissa, e, exponent = text.partition("e")
    return (mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa) + e + exponent


def format_value(value: object) -> str:
    """Return a setting or figure of any type as short text."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return strip_zeros(format_digits(value, 4))
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, list | tuple):
        return " x ".join(format_value(item) for item in value)
    return str(value)
