"""Which extras are installed, and in which versions."""

import re
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version

_PACKAGE = "agenthuman-plugins"
_REQUIREMENT = re.compile(r"(?P<package>[\w.-]+)[^;]*(?:;.*\bextra\s*==\s*['\"](?P<extra>[\w-]+)['\"])?")


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
        try:
            self.versions[package] = version(package)
        except PackageNotFoundError:
            if (
                package not in self.missing
            ):  # an extra may name a package twice, as pipecat-ai[webrtc] beside it
                self.missing.append(package)


def extras() -> list[Extra]:
    """Every extra, the core first; empty if the package itself was never installed."""
    try:
        requirements = requires(_PACKAGE) or []
    except PackageNotFoundError:
        return []
    found: dict[str, Extra] = {}
    for requirement in requirements:
        if match := _REQUIREMENT.match(requirement):
            name = match["extra"] or "core"
            found.setdefault(name, Extra(name)).look_for(match["package"])
    return [*found.values()]
