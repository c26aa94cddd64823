"""Addresses for the package's page on an index: its links, and a README whose own links work outside the repository.

They come from two variables of the build, `AGENTHUMAN_REPOSITORY_URL` and `AGENTHUMAN_DOCS_URL`. What has no address is
left out: a link becomes its text, and a picture disappears. So is what is true only until the package is published. The
namesakes in `distributions/` have copies of this file.
"""

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_BLOCKS_OF_CODE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_UNPUBLISHED = re.compile(r"<!-- unpublished -->.*?<!-- /unpublished -->\n*", re.DOTALL)
_PICTURE = re.compile(r"!\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
_LINK = re.compile(r"(?<!!)\[(?P<text>(?:!\[[^\]]*\]\([^)]*\)|[^\[\]])*)\]\((?P<target>[^)\s]+)\)")


class Addresses:
    """Where repository and documentation are published.

    Args:
        repository: Address of the repository on a forge; empty if there is none.
        docs: Address of the built documentation; empty if there is none.
        version: The release, whose tag the links lead to.
    """

    def __init__(self, repository: str, docs: str, version: str) -> None:
        self._repository = repository.rstrip("/")
        self._docs = docs.rstrip("/")
        self._version = version

    def urls(self) -> dict[str, str]:
        """The links beside the page."""
        urls = {"Homepage": self._docs or self._repository, "Documentation": self._docs}
        if self._repository:
            urls["Source"] = self._repository
            urls["Issues"] = f"{self._repository}/issues"
            urls["Changelog"] = f"{self._repository}/blob/v{self._version}/CHANGELOG.md"
        return {name: url for name, url in urls.items() if url}

    def of(self, target: str) -> str:
        """Where a link of the README leads, relative to the repository or already complete; empty if nowhere."""
        if "://" in target:
            return target
        path, hash_, anchor = target.removeprefix("../../").partition("#")  # as from `distributions/NAME`
        if self._docs and path.startswith("docs/"):
            page = path.removeprefix("docs/")
            if page.endswith(".md"):
                page = re.sub(r"(^|/)index/$", r"\1", f"{page.removesuffix('.md')}/")
            return f"{self._docs}/{page}{hash_}{anchor}"
        if not self._repository:
            return ""
        kind = "raw" if path.startswith("docs/images/") else "blob"
        return f"{self._repository}/{kind}/v{self._version}/{path or 'README.md'}{hash_}{anchor}"


def with_addresses(markdown: str, addresses: Addresses) -> str:
    """The README for a page outside the repository."""

    def picture(found: re.Match[str]) -> str:
        url = addresses.of(found["target"])
        return f"![{found['text']}]({url})" if url else ""

    def link(found: re.Match[str]) -> str:
        url = addresses.of(found["target"])
        return f"[{found['text']}]({url})" if url and found["text"] else found["text"]

    parts = _BLOCKS_OF_CODE.split(_UNPUBLISHED.sub("", markdown))
    parts[::2] = [_LINK.sub(link, _PICTURE.sub(picture, part)) for part in parts[::2]]
    return "".join(parts)


class CustomMetadataHook(MetadataHookInterface):
    """Sets the fields that depend on addresses."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `urls` and `readme`."""
        repository, docs = (
            os.environ.get(f"AGENTHUMAN_{name}_URL", "").strip() for name in ("REPOSITORY", "DOCS")
        )
        addresses = Addresses(repository, docs, metadata["version"])
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["urls"] = addresses.urls()
        metadata["readme"] = {"content-type": "text/markdown", "text": with_addresses(text, addresses)}
