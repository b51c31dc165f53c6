"""The settings that every run has; a field's docstring is its documentation."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tripletcl.config.method import validated_methods
from tripletcl.continual import Stability, Training
from tripletcl.continual.device import Precision
from tripletcl.methods import build_method


class Section(BaseModel):
    """A group of settings: unknown keys are errors, values do not change after they were read."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)


class Augmentation(Section):
    """Random changes of the training images; without effect on cached features, which know only the mirror image."""

    flip: bool = True
    """Mirror each image with probability 0.5."""
    crop: tuple[float, float] | None = None
    """Smallest and largest part of the area that a random crop keeps; null does not crop."""
    jitter: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Strength of brightness, contrast and saturation changes."""


class Compare(Section):
    """What `tripletcl compare` runs."""

    methods: list[Any] = ["finetune", "mas", "joint"]
    """Names, mappings with a name and the method's settings, or lists of these: methods combined."""
    seeds: Annotated[list[int], Field(min_length=1)] = [0]
    """Every method is run with every one of these seeds: the number is added to `seed`."""
    importance: list[Literal["train", "test", "both"]] = []
    """And every method that measures importance on images once with each of these as `data.importance`; []: as that
    says."""
    jobs: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """How many runs at once; auto: one on each GPU, or without a GPU one on each core."""

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: list[Any]) -> list[list[dict[str, Any]]]:
        return [validated_methods(method) for method in methods]

    @field_validator("seeds", "importance")
    @classmethod
    def _once(cls, entries: list[Any]) -> list[Any]:
        return each_once(entries)


def each_once(entries: list[Any]) -> list[Any]:
    """The entries themselves.

    Raises:
        ValueError: one is there twice.
    """
    if any(entry in entries[:number] for number, entry in enumerate(entries)):
        raise ValueError("names the same run twice")
    return entries


class Config(Section):
    """The settings that every run has, whatever it learns."""

    seed: int = 0
    """Of the weights, the order of batches and the augmentation."""
    device: str = "auto"
    """"auto" (the GPU where there is one), "cpu" or "cuda"."""
    precision: Precision = "float32"
    """In which training computes: float32, or mixed precision with bfloat16 or (on a GPU only) float16."""
    training: Training = Training()
    stability: Stability = Stability()
    method: list[dict[str, Any]] = [{"name": "finetune"}]
    """A name, a mapping with a name and the method's settings, or a list of these: methods combined."""
    compare: Compare = Compare()

    @property
    def validation(self) -> float:
        """Part of the training items that no method trains on."""
        raise NotImplementedError

    @property
    def sequence(self) -> str:
        """What messages call the run's sequence of tasks."""
        raise NotImplementedError

    @property
    def suffix(self) -> str:
        """The end of the name of a run's folder in a comparison, behind the method's label."""
        raise NotImplementedError

    def sequences(self) -> list[dict[str, Any]]:
        """The changes of `data` that give every sequence of tasks to compare on."""
        raise NotImplementedError

    @field_validator("method", mode="before")
    @classmethod
    def _known(cls, method: Any) -> list[dict[str, Any]]:
        return validated_methods(method)

    @model_validator(mode="after")
    def _auto_needs_validation(self) -> Self:
        searched = any(build_method(m).auto_method is not None for m in [self.method, *self.compare.methods])
        if searched and not self.validation:
            raise ValueError("lam: auto is chosen by images held out of training; set data.validation above 0")
        return self
