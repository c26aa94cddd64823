"""One line of a benchmark's table."""

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Row:
    what: str
    values: list[float]
    unit: str = "ms"

    def cells(self) -> tuple[str, ...]:
        values = self.values or [float("nan")]
        figures = (median(values), min(values), max(values))
        return self.what, *(f"{figure:.1f} {self.unit}" for figure in figures), str(len(self.values))
