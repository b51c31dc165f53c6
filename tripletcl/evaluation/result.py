"""The result of one run, and many results summed up by method."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tripletcl.errors import UserError
from tripletcl.evaluation import matrix

LOWER_BOUND, UPPER_BOUND = "finetune", "joint"
"""The methods that the closed gap is measured between."""


@dataclass(frozen=True)
class RunResult:
    """Everything measured on one run of one method: one seed, one split into tasks.

    All scores are fractions in [0, 1]; one that is not known is None: that of a task added later, before it was, and of
    a task whose test photos are gone. A stage is the model after task t; stage 0 is before training. Joint training
    has two stages, before and after.

    Attributes:
        method: The method's name, such as "mas".
        seed: The run's seed.
        split: The name of the split into tasks, such as "random-0".
        tasks: `[T]` the tasks' names.
        map_matrix: `[stages, T]` MAP of each task's facts; the gallery is the task's own test images.
        map_matrix_all: `[stages, T]` MAP of each task's facts; the gallery is all test images.
        map_all: `[stages]` MAP of all facts over all test images.
        recall: Image-to-fact recall at the last stage, keys "1", "5" and "10".
        mrr: Image-to-fact mean reciprocal rank at the last stage.
        ap: (fact, AP over all test images) at the last stage, for each fact that has a test image.
        seconds: Wall-clock time of the run.
        map_open: `[stages]` as `map_all`, from the vectors alone; empty where no scores of known facts were added.
        map_subset: `[stages]` MAP of the chosen subset of facts over all test images; empty where none was chosen.
        method_bytes: `[stages]` bytes that the method keeps.
        lams: `[T]` the weight that each task was learned with, where it was chosen task by task.
    """

    method: str
    seed: int
    split: str
    tasks: list[str]
    map_matrix: list[list[float | None]]
    map_matrix_all: list[list[float | None]]
    map_all: list[float | None]
    recall: dict[str, float | None]
    mrr: float | None
    ap: list[tuple[str, float]]
    seconds: float
    map_open: list[float] = dataclasses.field(default_factory=list)
    map_subset: list[float | None] = dataclasses.field(default_factory=list)
    method_bytes: list[int] = dataclasses.field(default_factory=list)
    lams: list[float | None] = dataclasses.field(default_factory=list)

    @property
    def map_tasks(self) -> list[float | None]:
        """`[T]` MAP of each task on its own gallery at the last stage."""
        return self.map_matrix[-1]

    @property
    def map_tasks_mean(self) -> float | None:
        """The mean of `map_tasks`, over those that are known."""
        known = [score for score in self.map_tasks if score is not None]
        return statistics.fmean(known) if known else None

    @property
    def map_all_final(self) -> float | None:
        """MAP of all facts over all test images at the last stage."""
        return self.map_all[-1]

    @property
    def forgetting(self) -> float | None:
        """See `tripletcl.evaluation.forgetting`; on the tasks' own galleries."""
        return matrix.forgetting(self.map_matrix)

    @property
    def backward_transfer(self) -> float | None:
        """See `tripletcl.evaluation.backward_transfer`; on the tasks' own galleries."""
        return matrix.backward_transfer(self.map_matrix)

    @property
    def forward_transfer(self) -> float | None:
        """See `tripletcl.evaluation.forward_transfer`; on the tasks' own galleries."""
        return matrix.forward_transfer(self.map_matrix)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts and numbers, ready for JSON."""
        return {**dataclasses.asdict(self), "ap": [list(pair) for pair in self.ap]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunResult:
        """The inverse of `to_dict`.

        Raises:
            UserError: a field is missing or unknown.
        """
        known = dataclasses.fields(cls)
        needed = {field.name for field in known if field.default_factory is dataclasses.MISSING}
        if wrong := (needed - values.keys()) | (values.keys() - {field.name for field in known}):
            raise UserError(f"not a run result: missing or unknown field {', '.join(sorted(wrong))}")
        return cls(**{**values, "ap": [(fact, ap) for fact, ap in values["ap"]]})


def gap_closed(result: RunResult, finetune: RunResult, joint: RunResult) -> float | None:
    """How much of the way from fine-tuning (0) to joint training (1) a method goes.

    (MAP - MAP_finetune) / (MAP_joint - MAP_finetune), each of all facts over all test images at the last stage. None
    where joint training is no better than fine-tuning: there is no gap to close; and where one is not known.
    """
    found, lower, upper = result.map_all_final, finetune.map_all_final, joint.map_all_final
    if found is None or lower is None or upper is None or upper <= lower:
        return None
    return (found - lower) / (upper - lower)


def gap_closed_among(result: RunResult, results: Iterable[RunResult]) -> float | None:
    """`gap_closed` against the fine-tuning and the joint run of the same seed and split; None where one is missing."""
    same = {run.method: run for run in results if (run.seed, run.split) == (result.seed, result.split)}
    if LOWER_BOUND not in same or UPPER_BOUND not in same:
        return None
    return gap_closed(result, same[LOWER_BOUND], same[UPPER_BOUND])


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1) of a number over runs; std is None for a single run."""

    mean: float
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Spread | None:
        """None where any run lacks the number: a mean over some of the runs would compare unlike things."""
        known = [value for value in values if value is not None]
        if not known or len(known) < len(values):
            return None
        return cls(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None)


@dataclass(frozen=True)
class MethodSummary:
    """One method over all its seeds and splits; a number is None where it is undefined for the method.

    Attributes:
        method: The method's name.
        runs: How many runs the numbers are over.
        map_all: MAP of all facts over all test images.
        map_tasks: MAP of the tasks' own galleries, averaged over tasks within each run.
        forgetting: See `tripletcl.evaluation.forgetting`.
        backward_transfer: See `tripletcl.evaluation.backward_transfer`.
        forward_transfer: See `tripletcl.evaluation.forward_transfer`.
        gap_closed: Against finetune and joint of the same seed and split; None where one of them was not run.
        recall: Image-to-fact recall at "1", "5" and "10".
        mrr: Image-to-fact mean reciprocal rank.
        seconds: Wall-clock time.
    """

    method: str
    runs: int
    map_all: Spread | None
    map_tasks: Spread | None
    forgetting: Spread | None
    backward_transfer: Spread | None
    forward_transfer: Spread | None
    gap_closed: Spread | None
    recall: dict[str, Spread | None]
    mrr: Spread | None
    seconds: Spread | None


def summarise(results: Iterable[RunResult]) -> list[MethodSummary]:
    """Mean and sample standard deviation over seeds and splits, one row a method in order of first appearance.

    Raises:
        UserError: two results have the same method, seed and split.
    """
    by_run: dict[tuple[str, int, str], RunResult] = {}
    for result in results:
        key = (result.method, result.seed, result.split)
        if key in by_run:
            raise UserError(f"two results of method {key[0]}, seed {key[1]}, split {key[2]}; each may count only once")
        by_run[key] = result
    methods = dict.fromkeys(method for method, _, _ in by_run)
    everything = list(by_run.values())
    return [_summary([run for run in everything if run.method == method], everything) for method in methods]


def _summary(runs: list[RunResult], everything: Sequence[RunResult]) -> MethodSummary:
    return MethodSummary(
        method=runs[0].method,
        runs=len(runs),
        map_all=Spread.of([run.map_all_final for run in runs]),
        map_tasks=Spread.of([run.map_tasks_mean for run in runs]),
        forgetting=Spread.of([run.forgetting for run in runs]),
        backward_transfer=Spread.of([run.backward_transfer for run in runs]),
        forward_transfer=Spread.of([run.forward_transfer for run in runs]),
        gap_closed=Spread.of([gap_closed_among(run, everything) for run in runs]),
        recall={k: Spread.of([run.recall.get(k) for run in runs]) for k in runs[0].recall},
        mrr=Spread.of([run.mrr for run in runs]),
        seconds=Spread.of([run.seconds for run in runs]),
    )
