"""The settings of an experiment, typed; every field's text is its documentation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tripletcl.config.method import validated_methods
from tripletcl.continual.optimization import Training
from tripletcl.embedding.spec import EmbedderSpec


class Section(BaseModel):
    """A group of settings: unknown keys are errors, values do not change after they were read."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)


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


class Augmentation(Section):
    """Random changes of the training images; without effect on cached features, which know only the mirror image."""

    flip: bool = True
    """Mirror half of the images."""
    crop: tuple[float, float] | None = None
    """Smallest and largest part of the area that a random crop keeps; null does not crop."""
    jitter: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Strength of brightness, contrast and saturation changes."""


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
    """Of the random and the semantic split."""
    task_column: str | None = None
    """The table's column with each fact's task, for `split: column`."""
    importance: str = "train"
    """Images that importance is computed on: "train", "test", "both", or a folder of unlabelled images."""
    cache_features: bool = False
    """Compute what lies below `model.freeze_until` once for each image and its mirror image."""
    augmentation: Augmentation = Augmentation()
    scenes: Scenes = Scenes()


class Loss(Section):
    """What pulls an image's unit vectors towards the text's."""

    name: Literal["contrastive", "wildcard_l2", "wildcard_l2_root"] = "contrastive"
    """Softmax over the unit vectors the task knows, or the squared or plain distance to the fact's own."""
    temperature: Annotated[float, Field(gt=0)] = 0.05
    """Of the softmax."""
    negatives: Literal["task", "seen"] = "task"
    """What the softmax tells a unit from: the units of the task's facts, or of all facts taught so far."""
    learn_temperature: bool = False
    """Train the temperature along with the weights."""


class Compare(Section):
    """What `tripletcl compare` runs."""

    methods: list[Any] = ["finetune", "mas", "joint"]
    """Names, mappings with a name and the method's settings, or lists of these: methods combined."""
    seeds: Annotated[list[int], Field(min_length=1)] = [0]
    """Every method is run with every seed, which also deals the facts to tasks (`data.split_seed` is added)."""

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: list[Any]) -> list[list[dict[str, Any]]]:
        return [validated_methods(method) for method in methods]


class Config(Section):
    """All settings of one run."""

    seed: int = 0
    """Of the weights, the order of batches and the augmentation."""
    device: str = "auto"
    """"auto" (the GPU where there is one), "cpu" or "cuda"."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision on devices that have it."""
    data: Data = Data()
    model: EmbedderSpec = EmbedderSpec()
    loss: Loss = Loss()
    training: Training = Training()
    method: list[dict[str, Any]] = [{"name": "finetune"}]
    """A name, a mapping with a name and the method's settings, or a list of these: methods combined."""
    compare: Compare = Compare()

    @field_validator("method", mode="before")
    @classmethod
    def _known(cls, method: Any) -> list[dict[str, Any]]:
        return validated_methods(method)
