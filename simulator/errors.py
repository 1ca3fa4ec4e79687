"""The two ways in which things go wrong that a user hears of."""


class GenlossError(ValueError):
    """Bad input: one sentence that names the mend.  The command line prints it and exits with 2."""


class RunFailed(RuntimeError):
    """A run that could not go on through no fault of its input (a full disk, say).  Exit code 1; it can be resumed."""
