"""What ends the demo."""


class DemoError(Exception):
    """Ends the demo with one sentence that says what to do."""
