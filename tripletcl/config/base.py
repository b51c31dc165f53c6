"""The settings of every run; a field's docstring is its documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tripletcl.config.method import validate_methods
from tripletcl.continual import Stability, Training
from tripletcl.continual.device import Precision
from tripletcl.methods import build_method


class Section(BaseModel):
    """A group of settings; unknown keys are errors, and values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)


class Augmentation(Section):
    """Random changes of the training images; with cached features only `flip` has an effect."""

    flip: bool = True
    """Mirror each image with probability 0.5."""
    crop: tuple[float, float] | None = None
    """Smallest and largest share of the area that a random crop keeps; null does not crop."""
    jitter: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Strength of brightness, contrast and saturation changes."""


class Compare(Section):
    """The runs of `tripletcl compare`."""

    methods: list[Any] = ["finetune", "mas", "joint"]
    """The methods: names, mappings with a name and the method's settings, or lists of these (methods combined)."""
    seeds: Annotated[list[int], Field(min_length=1)] = [0]
    """Each method runs once with each of these seeds; the number is added to `seed`."""
    importance: list[Literal["train", "test", "both"]] = []
    """Each method that measures importance on images also runs once with each of these as `data.importance`; an empty
    list uses only the value there."""
    jobs: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Number of runs at a time; "auto" is one on each GPU, or without a GPU one on each core."""

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: list[Any]) -> list[list[dict[str, Any]]]:
        return [validate_methods(method) for method in methods]

    @field_validator("seeds", "importance")
    @classmethod
    def _once(cls, entries: list[Any]) -> list[Any]:
        return check_unique(entries)


def check_unique(entries: list[Any]) -> list[Any]:
    """Return the entries; raise ValueError if one occurs twice."""
    if any(entry in entries[:number] for number, entry in enumerate(entries)):
        raise ValueError("names the same run twice")
    return entries


class Config(Section):
    """The settings of every run, whatever it learns."""

    if TYPE_CHECKING:
        learns: str = ""  # each kind of settings has it, as a field

    seed: int = 0
    """Seed of the weights, the order of batches and the augmentation."""
    device: str = "auto"
    """The device: "auto" (the GPU if there is one), "cpu" or "cuda"."""
    precision: Precision = "float32"
    """Number format of training: "float32", or mixed precision with "bf16" or (only on a GPU) "fp16"."""
    training: Training = Training()
    """How each task is trained."""
    stability: Stability = Stability()
    """How `lam: auto` chooses the weight of a method's penalty."""
    method: list[dict[str, Any]] = [{"name": "finetune"}]
    """The method: a name, a mapping with a name and the method's settings, or a list of these (methods combined)."""
    compare: Compare = Compare()
    """The runs of `tripletcl compare`."""

    @property
    def validation(self) -> float:
        """The share of the training items that no method trains on."""
        raise NotImplementedError

    @property
    def sequence(self) -> str:
        """The name of the run's sequence of tasks in messages."""
        raise NotImplementedError

    @property
    def suffix(self) -> str:
        """The end of the name of a run's folder in a comparison, after the method's label."""
        raise NotImplementedError

    def sequences(self) -> list[dict[str, Any]]:
        """The changes of `data` for each sequence of tasks to compare on."""
        raise NotImplementedError

    @field_validator("method", mode="before")
    @classmethod
    def _known(cls, method: Any) -> list[dict[str, Any]]:
        return validate_methods(method)

    @model_validator(mode="after")
    def _auto_needs_validation(self) -> Self:
        searched = any(build_method(m).auto_method is not None for m in [self.method, *self.compare.methods])
        if searched and not self.validation:
            raise ValueError("lam: auto is chosen on images held out of training; set data.validation above 0")
        return self
