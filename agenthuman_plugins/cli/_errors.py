"""What ends a command."""


class CommandError(Exception):
    """Ends the command with one sentence that says what to do."""

    exit_code = 1


class UsageError(CommandError):
    """The same for a call that makes no sense; its exit code is that of argparse."""

    exit_code = 2
