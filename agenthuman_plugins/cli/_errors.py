"""What ends a command."""


class CommandError(Exception):
    """Ends the command with one sentence that says what to do."""
