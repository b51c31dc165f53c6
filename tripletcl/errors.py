"""The exception for a user's mistake, and what its messages share."""

import operator
import os
import unicodedata
from pathlib import Path

DIRECTIONS = frozenset("\N{LEFT-TO-RIGHT OVERRIDE}\N{RIGHT-TO-LEFT OVERRIDE}\N{RIGHT-TO-LEFT EMBEDDING}")
"""Characters that make a terminal show a name in another order."""


class UserError(Exception):
    """A mistake of the user: bad data, a bad setting, a run folder of another config.

    The message is one sentence that names the culprit and what is allowed. The command line prints it without a
    traceback and exits with code 2; a script may catch it.
    """


class ReportedError(UserError):
    """A mistake that another process of the group has reported already: the command line ends without a word."""


def excerpt(text: str, longest: int = 60) -> str:
    """A user's text as a message quotes it: at most `longest` characters, control characters escaped."""
    return repr(text if len(text) <= longest else text[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}")


def check_count(name: str, value: object) -> int:
    """Return a number that counts something.

    Raises:
        UserError: it is no whole number, or less than 1.
    """
    try:
        count = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise UserError(f"{name} must be a whole number, not {value!r:.60}") from None
    if count < 1:
        raise UserError(f"{name} must be at least 1, not {count}")
    return count


def check_path(name: str, value: object) -> Path:
    """Return the path that a text or a path names.

    Raises:
        UserError: it is neither.
    """
    if not isinstance(value, str | os.PathLike):
        raise UserError(f"{name} is a path, not {value!r:.60}")
    return Path(value)


def printable(text: str, kept: str = "\n\t") -> str:
    """Escape control characters, so that a photo's name does not command the terminal; those `kept` stay."""
    if text.isprintable():
        return text
    harmful = (letter not in kept and (unicodedata.category(letter) == "Cc" or letter in DIRECTIONS) for letter in text)
    return "".join(
        letter.encode("unicode_escape").decode() if escaped else letter
        for letter, escaped in zip(text, harmful, strict=True)
    )
