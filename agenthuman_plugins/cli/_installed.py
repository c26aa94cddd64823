"""Which extras are installed, and in which versions."""

import re
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version

_PACKAGE = "agenthuman-plugins"
_REQUIREMENT = re.compile(
    r"(?P<name>[\w.-]+)\s*(?:\[(?P<extras>[^\]]*)\])?[^;]*(?:;.*\bextra\s*==\s*['\"](?P<extra>[\w-]+)['\"])?"
)


@dataclass(slots=True)
class Extra:
    """A group of packages that the package can use.

    Attributes:
        name: Name in `agenthuman-plugins[name]`; `core` is what the package cannot do without.
        versions: Installed packages and their versions.
        missing: Packages that are not installed.
    """

    name: str
    versions: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def look_for(self, package: str) -> None:
        """Note whether a package is installed."""
        if package in self.versions or package in self.missing:
            return
        try:
            self.versions[package] = version(package)
        except PackageNotFoundError:
            self.missing.append(package)


def extras() -> list[Extra]:
    """Every extra, the core first; empty if the package itself was never installed."""
    try:
        wanted = _wanted(requires(_PACKAGE) or [])
    except PackageNotFoundError:
        return []
    found = []
    for name in wanted:
        extra = Extra(name)
        for package in _packages(name, wanted):
            extra.look_for(package)
        found.append(extra)
    return found


def _wanted(requirements: list[str]) -> dict[str, list[tuple[str, list[str]]]]:
    """Packages by extra, each with the extras that are asked of it."""
    wanted: dict[str, list[tuple[str, list[str]]]] = {"core": []}
    for requirement in requirements:
        if match := _REQUIREMENT.match(requirement):
            asked = [extra.strip() for extra in (match["extras"] or "").split(",") if extra.strip()]
            wanted.setdefault(match["extra"] or "core", []).append((match["name"], asked))
    return wanted


def _packages(extra: str, wanted: dict[str, list[tuple[str, list[str]]]]) -> list[str]:
    """The packages of an extra, those of our own extras that it asks for included."""
    packages: list[str] = []
    for name, asked in wanted[extra]:
        packages += (
            [each for other in asked for each in _packages(other, wanted)] if name == _PACKAGE else [name]
        )
    return packages
