"""The settings of a run that learns facts."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tripletcl.config.base import Augmentation, Compare, Config, Section, each_once
from tripletcl.continual import Training
from tripletcl.embedding.spec import EmbedderSpec

LABELLED = ("train", "test", "both")
"""The images of the table that importance can be computed on."""


class Scenes(Section):
    """The drawn data set, used where `data.table` is "scenes"."""

    facts: Annotated[int, Field(ge=12)] = 150
    """How many facts."""
    train: Annotated[int, Field(ge=1)] = 12
    """Training images a fact."""
    test: Annotated[int, Field(ge=1)] = 5
    """Test images a fact."""
    seed: int = 0
    """Draws another set."""


class Further(Section):
    """One more table, learned as one more task behind the others; short for it is the table alone."""

    table: str
    """A CSV, JSON Lines or Parquet file; its image paths are relative to its folder, or absolute."""
    taught: str | None = None
    """The fact, where the table was made of a handful of photos (`tripletcl teach`)."""
    training: Training | None = None
    """How this task is trained; null as the others."""


class Data(Section):
    """Which facts, which images, which tasks."""

    table: str = "scenes"
    """A CSV, JSON Lines or Parquet file, or "scenes" for the drawn data set."""
    root: str | None = None
    """The folder that the image paths are relative to; the table's folder if null."""
    tasks: Annotated[int, Field(ge=1)] | None = 4
    """Number of tasks; null with `split: column`, where the column tells."""
    split: Literal["random", "semantic", "column"] = "random"
    """How facts are dealt to tasks: at random, by clusters of their text vectors, or by a column of the table."""
    split_seed: int = 0
    """Of the random and the semantic split, and of what is unseen."""
    unseen: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the facts of two or three units that no task teaches, though each unit is taught in another fact; their
    test rows stay, for `tripletcl evaluate --unseen`."""
    task_column: str | None = None
    """The table's column with each fact's task, for `split: column`."""
    further: list[Further] = Field(default_factory=list)
    """Tables learned behind the first one's tasks, each as one task (`tripletcl train --continue`)."""
    importance: str = "train"
    """Images that importance is computed on: "train", "test", "both", or a folder of unlabelled images."""
    importance_images: Annotated[int, Field(ge=1)] | None = None
    """At most so many of them a task, drawn by the seed; null takes all."""
    subset: str | None = None
    """Facts such as "person playing ?": importance is computed on their images alone, and their MAP is told apart."""
    subset_importance: Literal["always", "if adaptive"] = "always"
    """A method that cannot adapt refuses a subset; "if adaptive" lets it run as it is, as a baseline."""
    subset_first: bool = False
    """Teach all facts of the subset in the first task; the others stay where the split put them."""
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the training images that no method trains on; `lam: auto` is chosen by them."""
    cache_features: bool = False
    """Compute what lies below `model.freeze_until` once for each image and its mirror image."""
    augmentation: Augmentation = Augmentation()
    scenes: Scenes = Scenes()

    @field_validator("further", mode="before")
    @classmethod
    def _tables(cls, further: Any) -> Any:
        entries = [further] if isinstance(further, str) else further
        if not isinstance(entries, list):
            return entries  # refused by the field's type
        return [{"table": each} if isinstance(each, str) else each for each in entries]

    @field_validator("subset")
    @classmethod
    def _of_labelled_images(cls, subset: str | None, info: ValidationInfo) -> str | None:
        if subset is not None and info.data.get("importance", "train") not in LABELLED:
            raise ValueError(f"unlabelled images show no known fact; data.importance can be {', '.join(LABELLED)}")
        return subset

    @field_validator("subset_first")
    @classmethod
    def _of_a_subset(cls, first: bool, info: ValidationInfo) -> bool:
        if first and info.data.get("subset") is None:
            raise ValueError("there is no data.subset to teach first")
        return first


class Loss(Section):
    """What pulls an image's unit vectors towards the text's."""

    name: Literal["contrastive", "wildcard_l2", "wildcard_l2_root", "wildcard_cosine"] = "contrastive"
    """Softmax over the unit vectors the task knows, or a distance to the fact's own: squared, plain, or 1 - cosine."""
    temperature: Annotated[float, Field(gt=0)] = 0.05
    """Of the softmax."""
    negatives: Literal["task", "seen"] = "task"
    """What the softmax tells a unit from: the units of the task's facts, or of all facts taught so far."""
    learn_temperature: bool = False
    """Train the temperature along with the weights."""


class CompareFacts(Compare):
    """What `tripletcl compare` runs on facts."""

    splits: list[int] = Field(default=[0], min_length=1)
    """And that on every one of these splits into tasks: the number is added to `data.split_seed`."""

    @field_validator("splits")
    @classmethod
    def _splits_once(cls, numbers: list[int]) -> list[int]:
        return each_once(numbers)


class FactConfig(Config):
    """All settings of a run that learns facts."""

    learns: Literal["facts"] = "facts"
    """Facts into a shared embedding, or "objects" (`ObjectConfig`)."""
    data: Data = Data()
    model: EmbedderSpec = EmbedderSpec()
    loss: Loss = Loss()
    compare: CompareFacts = CompareFacts()

    @property
    def validation(self) -> float:
        return self.data.validation

    @property
    def sequence(self) -> str:
        return f"split {self.data.split_seed}"

    @property
    def suffix(self) -> str:
        return f"-split{self.data.split_seed}-seed{self.seed}"

    def sequences(self) -> list[dict[str, Any]]:
        if self.data.split == "column":
            return [{}]
        return [{"split_seed": self.data.split_seed + split} for split in self.compare.splits]

    @model_validator(mode="after")
    def _one_split_of_a_column(self) -> Self:
        if self.data.split == "column" and len(self.compare.splits) > 1:
            raise ValueError(
                f"data.split is column, which gives one split: compare.splits cannot ask for {self.compare.splits}"
            )
        return self
