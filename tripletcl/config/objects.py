"""The settings of an experiment on objects: sequences of recognition tasks."""

from __future__ import annotations

import re
from itertools import permutations
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tripletcl.config.base import Augmentation, Compare, Config, Section, each_once
from tripletcl.data.sets import OBJECT_SETS
from tripletcl.embedding.spec import ClassifierSpec


class SetOfObjects(Section):
    """One set of labelled images; a task of its own, or dealt to several."""

    set: str = "folder"
    """"folder" (train/CLASS and test/CLASS below the root), or a published set: `tripletcl data sets` lists them."""
    root: str
    """The folder where it lies."""
    name: str | None = None
    """What tables call it; null: the folder's name, or that of the published set."""
    classes: list[str] | None = None
    """Only these classes, in this order; null: all."""
    incomplete: Literal["refuse", "drop"] = "refuse"
    """What becomes of a set with a class that lacks two training images or a test image; "drop" leaves it out."""
    download: bool = False
    """Fetch it into the root where it is not there, if its publisher's files can be fetched."""

    @field_validator("set")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind not in OBJECT_SETS:
            raise ValueError(f"there is no set {kind!r}; there are {', '.join(OBJECT_SETS)}")
        return kind

    @field_validator("classes", mode="before")
    @classmethod
    def _as_texts(cls, classes: Any) -> Any:
        return [str(each) for each in classes] if isinstance(classes, list) else classes  # YAML reads digits as numbers

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.name or (Path(self.root).name if self.set == "folder" else self.set)


class ObjectData(Section):
    """Which sets, and how they become tasks."""

    sets: list[SetOfObjects] = Field(default_factory=list)
    """The sets of images."""
    order: list[str] | None = None
    """The names of the sets in the order that they are learned; null: all, as they are given."""
    split: Annotated[int, Field(ge=2)] | None = None
    """Deal the classes of each set, in their order, to so many tasks; null: a set is one task."""
    permutations: Annotated[int, Field(ge=2)] | None = None
    """Learn each set so many times, after the first time with its pixels in another fixed order each; null: once."""
    heads: Literal["multi", "shared"] = "multi"
    """"multi": a head for each task, which is known when one asks; "shared": one head for all classes of all tasks."""
    importance: Literal["train", "test", "both"] = "train"
    """Images that importance is computed on; it needs no labels."""
    importance_images: Annotated[int, Field(ge=1)] | None = None
    """At most so many of them a task, drawn by the seed; null takes all."""
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the training images that no method trains on; `lam: auto` is chosen by them."""
    cache_features: bool = False
    """Compute what lies below `model.freeze_until` once for each image and its mirror image."""
    augmentation: Augmentation = Augmentation()

    @field_validator("sets")
    @classmethod
    def _named_apart(cls, sets: list[SetOfObjects]) -> list[SetOfObjects]:
        names = [each.label for each in sets]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two sets are called {twice[0]}: give them a name each")
        return sets

    @field_validator("order")
    @classmethod
    def _of_sets(cls, order: list[str] | None, info: ValidationInfo) -> list[str] | None:
        return None if order is None else checked_order(order, info.data.get("sets", []))

    @field_validator("cache_features")
    @classmethod
    def _of_plain_images(cls, cached: bool, info: ValidationInfo) -> bool:
        if cached and info.data.get("permutations"):
            raise ValueError("the mirror image of a permuted image is none; leave out data.permutations or this")
        return cached

    @property
    def learned(self) -> list[str]:
        """The names of the sets in the order that they are learned."""
        return [each.label for each in self.sets] if self.order is None else self.order


class CompareObjects(Compare):
    """What `tripletcl compare` runs on objects."""

    orders: Literal["pairs"] | list[list[str]] = Field(default_factory=list)
    """And that on every one of these orders of sets; "pairs": any two of them, both ways; []: `data.order`."""


class ObjectConfig(Config):
    """All settings of a run that learns to recognise objects."""

    learns: Literal["objects"] = "objects"
    """Objects by a head for each task, or "facts" (`FactConfig`)."""
    data: ObjectData = ObjectData()
    model: ClassifierSpec = ClassifierSpec()
    compare: CompareObjects = CompareObjects()

    @property
    def validation(self) -> float:
        return self.data.validation

    @property
    def sequence(self) -> str:
        return " → ".join(self.data.learned)

    @property
    def suffix(self) -> str:
        return re.sub(r"[^\w.-]+", "_", f"-{'-'.join(self.data.learned)}-seed{self.seed}")

    def sequences(self) -> list[dict[str, Any]]:
        orders = self.compare.orders
        if orders == "pairs":
            orders = [list(pair) for pair in permutations([each.label for each in self.data.sets], 2)]
        return [{"order": order} for order in orders] or [{}]

    @model_validator(mode="after")
    def _orders_of_sets(self) -> Self:
        if isinstance(self.compare.orders, list):
            for order in each_once(self.compare.orders):
                checked_order(order, self.data.sets)
        return self


def checked_order(order: list[str], sets: list[SetOfObjects]) -> list[str]:
    """The order itself.

    Raises:
        ValueError: it names no set, or one twice.
    """
    names = [each.label for each in sets]
    for name in order:
        if name not in names:
            raise ValueError(f"an order names {name!r}, but the sets are {', '.join(names) or 'none'}")
    if len(set(order)) < len(order) or not order:
        raise ValueError(f"an order names every set once that it learns, not {order}")
    return order
