"""Why a browser is not let in."""


class ViewerError(Exception):
    """Raised when a browser's offer is refused; the text is one sentence for its page."""
