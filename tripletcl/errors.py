"""The exception for a user's mistake."""


class UserError(Exception):
    """A mistake of the user: bad data, a bad setting, a run folder of another config.

    The message is one sentence that names the culprit and what is allowed. The command line prints it without a
    traceback and exits with code 2; a script may catch it.
    """


def excerpt(text: str, longest: int = 60) -> str:
    """A user's text as a message quotes it: at most `longest` characters, control characters escaped."""
    return repr(text if len(text) <= longest else text[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}")
