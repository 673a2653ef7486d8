"""A fact is a value, or Unknown with its reason; never a silent None."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, Union

T = TypeVar("T")


@dataclass(frozen=True)
class Unknown:
    """A fact that could not be found out.

    Attributes:
        reason: one clause for a person, such as "reading the EMC clock needs root".
    """

    reason: str

    def __str__(self) -> str:
        return f"unknown ({self.reason})"


Maybe = Union[T, Unknown]  # noqa: UP007, mypy takes no bare union of a type variable as an alias
"""`Maybe[int]`: an int, or why there is none."""
