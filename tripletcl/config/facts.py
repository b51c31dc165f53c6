"""The settings of a run that learns facts."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from tripletcl.config.base import Augmentation, Compare, Config, Section, check_unique
from tripletcl.continual import Training
from tripletcl.data.fact_sets import FACT_SETS, FactSetSpec
from tripletcl.data.fact_sets.export import TASK_COLUMN
from tripletcl.data.image_files import PixelCache
from tripletcl.data.splits import SplitWay
from tripletcl.embedding.spec import EmbedderSpec

LABELLED = ("train", "test", "both")
"""The values of `data.importance` that are images of the table."""


NO_TABLE = "none"
"""The value of `data.table` for a run that begins with what its model knows by itself."""

TABLE_KINDS = ("file", "published set")
"""The kinds of `data.table`."""


class Scenes(Section):
    """The drawn data set, used if `data.table` is "scenes"."""

    facts: Annotated[int, Field(ge=12)] = 150
    """Number of facts."""
    train: Annotated[int, Field(ge=1)] = 12
    """Training images per fact."""
    test: Annotated[int, Field(ge=1)] = 5
    """Test images per fact."""
    seed: int = 0
    """Another seed draws another set."""


class Further(Section):
    """A table that is learned as an additional task after the others; the table's path is short for it."""

    table: str
    """A CSV, JSON Lines or Parquet file; its image paths are relative to its folder, or absolute."""
    taught: str | None = None
    """The fact, if the table was made from a few photos (`tripletcl teach`)."""
    training: Training | None = None
    """How this task is trained; null is as the others."""
    complete: bool = False
    """True if the table also lists the facts of earlier tasks that its images show. Otherwise these are unknown, and
    the analytic readout leaves its answers for earlier facts as they are."""


def _kind_of_table(table: Any) -> str:
    return TABLE_KINDS[isinstance(table, dict | FactSetSpec)]


class Data(Section):
    """The facts, the images and the tasks."""

    table: Annotated[
        Annotated[str, Tag(TABLE_KINDS[0])] | Annotated[FactSetSpec, Tag(TABLE_KINDS[1])],
        Discriminator(_kind_of_table),
    ] = "scenes"
    """The table of facts: a CSV, JSON Lines or Parquet file, "scenes" for the drawn data set, or a published set
    (`{set: vrd, root: FOLDER}`); or "none", for a run that begins with what its model knows by itself (`model.base`),
    and learns follow-up tables and lessons."""
    root: str | None = None
    """The folder that the image paths of a table file are relative to; null is the file's folder."""
    tasks: Annotated[int, Field(ge=1)] | None = 4
    """Number of tasks; null with `split: column`, where the column determines it."""
    split: SplitWay = "random"
    """How facts are assigned to tasks: at random, with all facts of a predicate in one task, by clusters of their text
    vectors, or by a column of the table."""
    split_seed: int = 0
    """Seed of all splits but that by a column, and of the unseen facts."""
    unseen: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the facts of two or three units that no task teaches, while each of their units is taught in another
    fact; their test rows remain, for `tripletcl evaluate --unseen`."""
    task_column: str | None = None
    """The table's column with each fact's task, for `split: column`; a published set with tasks needs none."""
    fold: bool = True
    """Read units of a table file that are spellings or forms of one another ("Person", "persons") as one; false reads
    them as they are written."""
    further: list[Further] = Field(default_factory=list)
    """Tables that are learned after the first one's tasks, each as one task (`tripletcl train --continue`)."""
    importance: str = "train"
    """Images that importance is computed on: "train", "test", "both", or a folder of unlabelled images."""
    importance_images: Annotated[int, Field(ge=1)] | None = None
    """At most this number of them per task, sampled with the seed; null takes all."""
    subset: str | None = None
    """Facts such as "person playing ?": importance is computed only on their images, and their MAP is reported
    separately."""
    subset_importance: Literal["always", "if adaptive"] = "always"
    """"always" refuses a subset for a method that cannot adapt; "if adaptive" runs it without, as a baseline."""
    subset_first: bool = False
    """Move all facts of the subset into the first task; the others stay in the tasks of the split."""
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
    scenes: Scenes = Scenes()
    """The drawn data set."""

    @field_validator("table")
    @classmethod
    def _known(cls, table: str | FactSetSpec) -> str | FactSetSpec:
        if isinstance(table, FactSetSpec) and table.set not in FACT_SETS:
            raise ValueError(f"there is no fact set {table.set!r}; there are {', '.join(FACT_SETS)}")
        return table

    @field_validator("root")
    @classmethod
    def _of_a_file(cls, root: str | None, info: ValidationInfo) -> str | None:
        if root is not None and isinstance(info.data.get("table"), FactSetSpec):
            raise ValueError("it belongs to a table file; the folder of a published set is data.table.root")
        return root

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
            raise ValueError("there is no data.subset to move into the first task")
        return first

    @property
    def table_name(self) -> str:
        """The table's name in messages."""
        return self.table if isinstance(self.table, str) else f"the set {self.table.set} in {self.table.root}"

    @property
    def stored_task_column(self) -> str | None:
        """The column with each fact's task in a run's own file of the table."""
        of_set = isinstance(self.table, FactSetSpec) and self.split == "column"
        return self.task_column or (TASK_COLUMN if of_set else None)


class Loss(Section):
    """The loss that pulls an image's unit vectors towards those of the text."""

    name: Literal["contrastive", "wildcard_l2", "wildcard_l2_root", "wildcard_cosine"] = "contrastive"
    """"contrastive": a softmax over the unit vectors that the task knows. The others: distances to the fact's own unit
    vectors: squared, plain, or 1 - cosine."""
    temperature: Annotated[float, Field(gt=0)] = 0.05
    """Temperature of the softmax."""
    negatives: Literal["task", "seen"] = "task"
    """The negatives of the softmax: the units of the task's facts, or of all facts taught so far."""
    learn_temperature: bool = False
    """Train the temperature along with the weights."""


class CompareFacts(Compare):
    """The runs of `tripletcl compare` on facts."""

    splits: list[int] = Field(default=[0], min_length=1)
    """Each of these runs is done on each of these splits into tasks; the number is added to `data.split_seed`."""

    @field_validator("splits")
    @classmethod
    def _splits_once(cls, numbers: list[int]) -> list[int]:
        return check_unique(numbers)


class FactConfig(Config):
    """All settings of a run that learns facts."""

    learns: Literal["facts"] = "facts"
    """What is learned: "facts" in a shared embedding, or "objects" (`ObjectConfig`)."""
    data: Data = Data()
    """The facts, the images and the tasks."""
    model: EmbedderSpec = EmbedderSpec()
    """The network and its text encoder."""
    loss: Loss = Loss()
    """The loss that pulls an image's unit vectors towards those of the text."""
    compare: CompareFacts = CompareFacts()
    """The runs of `tripletcl compare`."""

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
