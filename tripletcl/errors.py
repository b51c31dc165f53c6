"""The one exception that stands for a user's mistake."""


class UserError(Exception):
    """A mistake of the user's: bad data, a bad setting, a run folder of another config.

    The message is one clear sentence that names the culprit and says what is allowed. The command line prints it
    without a trace and exits with code 2; a script may catch it.
    """
