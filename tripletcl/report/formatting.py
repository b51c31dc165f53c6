"""Numbers and names as the report writes them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
ACRONYMS = {"mas": "MAS", "ewc": "EWC", "si": "SI", "imm": "IMM", "ebll": "EBLL", "lwf": "LwF"}
ACRONYMS |= {"mas_alpha": "MAS-alpha"}
NUMBER_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def fraction(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """A fraction without its leading zero: `.445`, `−.012`, with sign also `+.012`; an en dash for None and NaN."""
    if value is None or not math.isfinite(value):
        return MISSING
    prefix, text = _signed_text(value, digits, sign)
    return prefix + text.removeprefix("0")


def signed(value: float | None) -> str:
    """A fraction that always shows its direction: `+.012`, `−.012`."""
    return fraction(value, sign=True)


def percent(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """A fraction in percent: `99.31`, `−1.20`, with sign also `+1.20`; an en dash for None and NaN.

    Two digits tell .08 points apart, which is what methods differ by on permuted MNIST.
    """
    if value is None or not math.isfinite(value):
        return MISSING
    return "".join(_signed_text(100 * value, digits, sign))


def short_fraction(value: float | None) -> str:
    """`.45`, for sentences and figures."""
    return fraction(value, 2)


def short_percent(value: float | None) -> str:
    """`88.4`, and `100`, for sentences and figures."""
    return percent(value, 1).replace("100.0", "100")


def fraction_tick(value: float | None) -> str:
    """`0`, `.2`, `.25`, `1` on an axis."""
    return _round(fraction(value, 2))


def percent_tick(value: float | None) -> str:
    """`0`, `20`, `98.5`, `100` on an axis."""
    return _round(percent(value))


def _round(text: str) -> str:
    return text.rstrip("0").rstrip(".") or "0"


def signed_percent(value: float | None) -> str:
    """A difference in points that always shows its direction: `+1.20`, `−1.20`."""
    return percent(value, sign=True)


def _signed_text(value: float, digits: int, sign: bool) -> tuple[str, str]:
    """The sign, which zero as printed has not, and the number."""
    text = f"{abs(value):.{digits}f}"
    is_zero = float(text) == 0
    return "" if is_zero else MINUS if value < 0 else "+" if sign else "", text


def duration(seconds: float | None) -> str:
    """Seconds as a person says them: `8.2 s`, `42 s`, `12 min`, `1.4 h`."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"


def megabytes(value: float | None) -> str:
    """Bytes in units of 10^6, as a person says them: `0 MB`, `<0.1 MB`, `2.4 MB`, `27 MB`."""
    if value is None or not math.isfinite(value):
        return MISSING
    number = value / 1e6
    if 0 < number < 0.05:
        return "<0.1 MB"
    return f"{number:.1f} MB" if 0 < number < 9.95 else f"{number:,.0f} MB"


def method_label(method: str) -> str:
    """A method's name as people write it: `mas-local` becomes `MAS-local`; unknown names stay as they are."""
    return re.sub(r"[^-+]+", lambda part: ACRONYMS.get(part[0], part[0]), method)


def counted(number: int, noun: str) -> str:
    """`one run`, `four tasks`, `12 tasks`."""
    word = NUMBER_WORDS[number] if number < len(NUMBER_WORDS) else f"{number:,}"
    return f"{word} {noun}{'' if number == 1 else 's'}"


def shortened(text: str, width: int) -> str:
    """The text in one line of at most width characters, its end replaced by an ellipsis where it is longer."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def total(verified: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The counts of `RunResult.verified` of all tasks together."""
    return sum(number for number, _ in verified), sum(number for _, number in verified)


def negatives(counts: tuple[int, int]) -> str:
    """The negatives of facts that are measured, from counts of `RunResult.verified`: what they are ranked against."""
    verified, measured = counts
    if not measured:
        return MISSING
    if verified in (0, measured):
        return "verified" if verified else "unlabelled"
    return f"{verified} of {measured} verified"
