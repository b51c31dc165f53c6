"""The exception for a user's mistake."""


class UserError(Exception):
    """A mistake of the user: bad data, a bad setting, a run folder of another config.

    The message is one sentence that names the culprit and what is allowed. The command line prints it without a
    traceback and exits with code 2; a script may catch it.
    """
