"""A picture on its way: a file in memory that tells how much of it was read."""

import io

from agenthuman_plugins.client._calls import Upload


class UploadFile(io.BytesIO):
    """What an HTTP library reads an upload from; each attempt has one of its own."""

    def __init__(self, upload: Upload) -> None:
        super().__init__(upload.content)
        self._upload = upload

    def read(self, size: int | None = -1, /) -> bytes:
        """Read the next part, and report it."""
        part = super().read(size)
        if part and self._upload.on_progress is not None:
            self._upload.on_progress(self.tell(), len(self._upload.content))
        return part

    def as_form(self) -> dict[str, tuple[str, "UploadFile", str]]:
        """The form with the one field `file`, as httpx takes it."""
        # What the file is called on the caller's machine is nobody's business.
        return {"file": (f"face.{self._upload.media_type.rpartition('/')[2]}", self, self._upload.media_type)}
