"""How the report writes numbers and names."""

from __future__ import annotations

import math
import re

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
ACRONYMS = {"mas": "MAS", "ewc": "EWC", "si": "SI", "imm": "IMM", "ebll": "EBLL", "lwf": "LwF"}
ACRONYMS |= {"mas_alpha": "MAS-alpha"}
NUMBER_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def fraction(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """A fraction without its leading zero: `.445`, `−.012`, with sign also `+.012`; an en dash for None and NaN."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{abs(value):.{digits}f}"
    is_zero = float(text) == 0
    prefix = "" if is_zero else MINUS if value < 0 else "+" if sign else ""
    return prefix + text.removeprefix("0")


def signed(value: float | None) -> str:
    """A fraction that always shows its direction: `+.012`, `−.012`."""
    return fraction(value, sign=True)


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
