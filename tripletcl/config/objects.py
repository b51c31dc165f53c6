"""The settings of a run that learns to recognise objects."""

from __future__ import annotations

import re
from itertools import permutations
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tripletcl.config.base import Augmentation, Compare, Config, Section, check_unique
from tripletcl.data.image_files import PixelCache
from tripletcl.data.sets import OBJECT_SETS
from tripletcl.embedding.spec import ClassifierSpec


class SetOfObjects(Section):
    """A set of labelled images; one task, or partitioned into several."""

    set: str = "folder"
    """"folder" (train/CLASS and test/CLASS below the root), or a published set: `tripletcl data sets` lists them."""
    root: str
    """The folder of the set."""
    name: str | None = None
    """The name in tables; null is the folder's name, or that of the published set."""
    classes: list[str] | None = None
    """Only these classes, in this order; null takes all."""
    incomplete: Literal["refuse", "drop"] = "refuse"
    """A class with fewer than two training images or no test image: "refuse" the set, or "drop" the class."""
    download: bool = False
    """Download the set into the root if it is missing and its files can be downloaded."""

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
        """The name in tables."""
        return self.name or (Path(self.root).name if self.set == "folder" else self.set)


class ObjectData(Section):
    """The sets, and how they are made into tasks."""

    sets: list[SetOfObjects] = Field(default_factory=list)
    """The sets of images."""
    order: list[str] | None = None
    """The names of the sets in the order in which they are learned; null is all sets in the given order."""
    split: Annotated[int, Field(ge=2)] | None = None
    """Partition the classes of each set, in their order, into this number of tasks; null makes a set one task."""
    permutations: Annotated[int, Field(ge=2)] | None = None
    """Learn each set this number of times, each time after the first with its pixels in another fixed order; null is
    once."""
    heads: Literal["multi", "shared"] = "multi"
    """"multi": a head for each task, and the task of a test image is given; "shared": one head for the classes of all
    tasks."""
    importance: Literal["train", "test", "both"] = "train"
    """Images that importance is computed on; labels are not needed."""
    importance_images: Annotated[int, Field(ge=1)] | None = None
    """At most this number of them per task, sampled with the seed; null takes all."""
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the training images that no method trains on; `lam: auto` is chosen on them."""
    cache_features: bool = False
    """Compute the outputs of the layers frozen by `model.freeze_until` once for each image and, with
    `augmentation.flip`, its mirror image."""
    pixel_cache: PixelCache = "auto"
    """Keep the decoded pixels of all images in the cache: "always", "never" (files are decoded whenever they are read),
    or "auto", unless they would take more than half of the free disk."""
    augmentation: Augmentation = Augmentation()
    """Random changes of the training images."""

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
        return None if order is None else check_order(order, info.data.get("sets", []))

    @field_validator("cache_features")
    @classmethod
    def _of_plain_images(cls, cached: bool, info: ValidationInfo) -> bool:
        if cached and info.data.get("permutations"):
            raise ValueError("permuted images have no mirror images to cache; leave out data.permutations or this")
        return cached

    @property
    def set_names(self) -> list[str]:
        """The names of the sets in the order in which they are learned."""
        return [each.label for each in self.sets] if self.order is None else self.order


class CompareObjects(Compare):
    """The runs of `tripletcl compare` on objects."""

    orders: Literal["pairs"] | list[list[str]] = Field(default_factory=list)
    """Each of these runs is done on each of these orders of sets; "pairs" is every two of them, both ways; an empty
    list uses `data.order`."""


class ObjectConfig(Config):
    """All settings of a run that learns to recognise objects."""

    learns: Literal["objects"] = "objects"
    """What is learned: "objects" by a head for each task, or "facts" (`FactConfig`)."""
    data: ObjectData = ObjectData()
    """The sets, and how they are made into tasks."""
    model: ClassifierSpec = ClassifierSpec()
    """The network."""
    compare: CompareObjects = CompareObjects()
    """The runs of `tripletcl compare`."""

    @property
    def validation(self) -> float:
        return self.data.validation

    @property
    def sequence(self) -> str:
        return " → ".join(self.data.set_names)

    @property
    def suffix(self) -> str:
        return re.sub(r"[^\w.-]+", "_", f"-{'-'.join(self.data.set_names)}-seed{self.seed}")

    def sequences(self) -> list[dict[str, Any]]:
        orders = self.compare.orders
        if orders == "pairs":
            orders = [list(pair) for pair in permutations([each.label for each in self.data.sets], 2)]
        return [{"order": order} for order in orders] or [{}]

    @model_validator(mode="after")
    def _orders_of_sets(self) -> Self:
        if isinstance(self.compare.orders, list):
            for order in check_unique(self.compare.orders):
                check_order(order, self.data.sets)
        return self


def check_order(order: list[str], sets: list[SetOfObjects]) -> list[str]:
    """Return the order; raise ValueError if it is empty, or names an unknown set or one set twice."""
    names = [each.label for each in sets]
    for name in order:
        if name not in names:
            raise ValueError(f"an order names {name!r}, but the sets are {', '.join(names) or 'none'}")
    if len(set(order)) < len(order) or not order:
        raise ValueError(f"an order names each set that it learns once, not {order}")
    return order
