"""The table at the end: what was measured, the ceiling it is held against, and whether that is enough."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Final, Literal, TypeAlias

from benchmarks.rounds import Spread, spread

#: Figures of each round.
Rounds: TypeAlias = Sequence[Sequence[float]]

COLUMNS: Final = ("what", "measured", "ceiling", "ratio", "required", "met")


@dataclass(frozen=True, slots=True)
class Required:
    """A bound for the ratio, or, where there is no ceiling, for the figure itself."""

    sense: Literal["≥", "≤"]
    bound: float
    unit: str = ""

    def met_by(self, figure: float) -> bool:
        """Whether the figure is good enough."""
        return figure >= self.bound if self.sense == "≥" else figure <= self.bound

    def __str__(self) -> str:
        return f"{self.sense} {_number(self.bound)}{self.unit}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line. The verdict is on the median of the ratio, or of what was measured."""

    what: str
    unit: str
    measured: Spread
    ceiling: Spread | None = None
    ratio: Spread | None = None
    required: Required | None = None

    @property
    def met(self) -> bool | None:
        """None where nothing is required."""
        return self.required.met_by((self.ratio or self.measured).median) if self.required else None


def alone(what: str, figures: Sequence[float], unit: str, required: Required | None = None) -> Row:
    """A figure without a ceiling."""
    return Row(what, unit, spread(list(figures)), required=required)


def against(what: str, figures: Sequence[float], ceiling: Sequence[float], unit: str, required: Required | None = None) -> Row:
    """A figure and its ceiling, round by round."""
    ratios = [mine / best for mine, best in zip(figures, ceiling, strict=True)]
    return Row(what, unit, spread(list(figures)), spread(list(ceiling)), spread(ratios), required)


def pooled(what: str, figures: Rounds, ceiling: Rounds, unit: str, required: Required | None = None) -> Row:
    """Many figures a round: the medians of the rounds, and the ratio of the medians of all."""
    mine, best = ([median(of_round) for of_round in rounds] for rounds in (figures, ceiling))
    ratios = [one / other for one, other in zip(mine, best, strict=True)]
    ratio = Spread(median(chain(*figures)) / median(chain(*ceiling)), min(ratios), max(ratios))
    return Row(what, unit, spread(mine), spread(best), ratio, required)


def show(rows: Sequence[Row]) -> str:
    """The rows as text, medians with the least and greatest beside them."""
    cells = [COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def write(file: Path, rows: Sequence[Row], about: Mapping[str, object]) -> None:
    """The rows as JSON."""
    found = [{**asdict(row), "required": str(row.required or ""), "met": row.met} for row in rows]
    file.write_text(json.dumps({**about, "rows": found}, indent=2, ensure_ascii=False) + "\n")


def _cells(row: Row) -> tuple[str, ...]:
    verdict = {None: "", True: "yes", False: "NO"}[row.met]
    measured = f"{_spread(row.measured)} {row.unit}"
    return row.what, measured, _spread(row.ceiling), _spread(row.ratio), str(row.required or ""), verdict


def _spread(figures: Spread | None) -> str:
    if figures is None:
        return ""
    return f"{_number(figures.median)} ({_number(figures.least)}-{_number(figures.greatest)})"


def _number(figure: float) -> str:
    if abs(figure) >= 100:
        return f"{figure:,.0f}"
    return f"{figure:.2f}" if abs(figure) < 10 else f"{figure:.1f}"
