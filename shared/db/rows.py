"""Many rows for one statement, as an array for each column.

PostgreSQL reads `unnest` of arrays several times as quickly as JSON. The driver would make the arrays element by element, with a look at
each one's type; here a column has one type.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, Self, get_args, get_type_hints


def numbers(values: Iterable[int | None]) -> str:
    """An array of numbers as PostgreSQL reads it."""
    return f"{{{','.join(['NULL' if value is None else str(value) for value in values])}}}"


def texts(values: Iterable[str]) -> str:
    """An array of texts."""
    return f"{{{','.join([_quoted(value) for value in values])}}}"


def dates(values: Iterable[date | None]) -> str:
    """An array of dates, or of moments."""
    return f"{{{','.join(['NULL' if value is None else value.isoformat() for value in values])}}}"


def flags(values: Iterable[bool]) -> str:
    """An array of booleans."""
    return f"{{{','.join(['t' if value else 'f' for value in values])}}}"


def _quoted(text: str) -> str:
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


_TYPES: Final = {int: "bigint", str: "text", bool: "boolean", datetime: "timestamptz", date: "date"}
_WRITERS: Final[dict[str, Callable[[Iterable[Any]], str]]] = {
    "bigint": numbers,
    "text": texts,
    "boolean": flags,
    "timestamptz": dates,
    "date": dates,
}


@dataclass(frozen=True, slots=True)
class Columns:
    """Names and types of the columns that rows have, in their order."""

    types: dict[str, str]

    @classmethod
    def of(cls, row: type[tuple[Any, ...]]) -> Self:
        """The columns that a NamedTuple's fields are. Numbers are as wide as they come: an INSERT fits them to the table."""
        hints = get_type_hints(row)
        return cls({name: _TYPES[(*get_args(hint), hint)[0]] for name, hint in hints.items()})

    @property
    def names(self) -> str:
        """For a column list."""
        return ", ".join(self.types)

    def source(self, name: str) -> str:
        """For a FROM: the rows as a table of this name. Its parameters are `arrays`."""
        return f"unnest({', '.join(f'%({column})s::{kind}[]' for column, kind in self.types.items())}) AS {name} ({self.names})"

    def arrays(self, rows: Sequence[Sequence[Any]]) -> dict[str, str]:
        """The parameters that these rows are."""
        columns: Iterable[Sequence[Any]] = zip(*rows, strict=True) if rows else ((),) * len(self.types)
        return {name: _WRITERS[kind](column) for (name, kind), column in zip(self.types.items(), columns, strict=True)}
