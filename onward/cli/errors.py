"""The two ways a command can end badly, and their exit codes."""


class UsageError(Exception):
    """The request cannot be carried out as it stands; one sentence with the remedy. Exit code 2."""

    exit_code = 2


class RunError(Exception):
    """The run failed on the way; one sentence with the remedy. Exit code 1."""

    exit_code = 1


class StoppedError(Exception):
    """The run was asked to stop (Ctrl-C or SIGTERM) and left a checkpoint; says how to go on. Exit code 130."""

    exit_code = 130
