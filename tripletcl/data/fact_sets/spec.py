"""Settings of a table that is made from a published fact set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Lt


@dataclass(frozen=True)
class FactSetSpec:
    """A published set of facts, and the table that is made from it."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    set: str
    """The set: `tripletcl data sets` lists them."""
    root: str
    """The folder of the set."""
    variant: str | None = None
    """One of the set's variants, where it has several; null is the first, or the form of the files that are there."""
    region: Literal["whole", "union"] = "whole"
    """The image of a row: the "whole" photo, or the part of it in the "union" of its boxes (the subject's box for a
    fact of one unit)."""
    orders: tuple[Literal[1, 2, 3], ...] | None = None
    """Only facts with these numbers of units, derived ones among them: [1, 2, 3] makes <person, riding> and <person>
    of <person, riding, horse>; null takes the facts as they are annotated."""
    people: Literal["keep", "merge"] = "keep"
    """Words for people (man, woman, girl): "keep" them, or "merge" them into "person"."""
    min_train: Annotated[int, Ge(0)] = 1
    """Only facts with at least this number of training images; 0 for sets that have test images only."""
    min_test: Annotated[int, Ge(0)] = 1
    """Only facts with at least this number of test images."""
    missing: Literal["refuse", "drop"] = "refuse"
    """Photos that are listed but missing: "refuse" the set, or "drop" them with a warning."""
    test_share: Annotated[float, Gt(0), Lt(1)] = 0.3
    """Share of the photos that are for testing, for a set without a split of its own."""
    seed: int = 0
    """Seed of that split."""
