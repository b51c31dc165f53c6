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


ENGINE_SETTINGS = {
    "local": ["name"],
    "slurm": ["name", "cpus", "gpus", "hours", "memory", "partition", "options"],
    "ray": ["name", "cpus", "gpus", "address"],
}
"""The settings that each engine has."""


class Engine(Section):
    """The place where the runs of a comparison are trained."""

    name: Literal["local", "slurm", "ray"] = "local"
    """"local": processes on this machine. "slurm": a job array; "ray": tasks of a Ray cluster; both need the extra
    `cluster`, and a folder of the runs that all machines see."""
    cpus: Annotated[int, Field(ge=1)] = 1
    """Cores of each run."""
    gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs of each run; with Ray a fraction shares one."""
    hours: Annotated[float, Field(gt=0)] = 24.0
    """SLURM's time limit; a run that takes longer is put back into the queue and resumes."""
    memory: Annotated[float, Field(gt=0)] | None = None
    """Memory of each run in GB, for SLURM; null is the partition's own."""
    partition: str | None = None
    """SLURM's partition."""
    options: dict[str, Any] = {}
    """Further options of `sbatch`, as in `{account: vision, constraint: a100}`."""
    address: str | None = None
    """The Ray cluster, as in `ray://head:10001` or `auto`; null is that of RAY_ADDRESS, or one on this machine."""

    @model_validator(mode="after")
    def _has_its_own_settings(self) -> Self:
        fields, own = type(self).model_fields, ENGINE_SETTINGS[self.name]
        strange = [name for name in fields if name not in own and getattr(self, name) != fields[name].default]
        if strange:
            raise ValueError(f"engine {self.name} has no {strange[0]}; it has {', '.join(own)}")
        if self.name == "slurm" and self.gpus != int(self.gpus):
            raise ValueError(f"gpus is {self.gpus:g}, but slurm gives whole GPUs")
        return self


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
    """Number of runs at a time; "auto" is one on each GPU, or without a GPU one on each core; on a cluster, as many as
    it has room for. When fewer are left than cores, these take the free threads, up to OMP_NUM_THREADS where it is set;
    figures differ by rounding with the number of threads."""
    engine: Engine = Engine()
    """Where the runs are trained: a name, or a mapping as `{name: slurm, partition: gpu, gpus: 1, hours: 12}`."""

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: list[Any]) -> list[list[dict[str, Any]]]:
        return [validate_methods(method) for method in methods]

    @field_validator("engine", mode="before")
    @classmethod
    def _named(cls, engine: Any) -> Any:
        return {"name": engine} if isinstance(engine, str) else engine

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
