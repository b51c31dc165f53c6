"""The result of one run, and the summary of many results by method."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from tripletcl.errors import UserError
from tripletcl.evaluation import matrix
from tripletcl.files import validated

LOWER_BOUND, UPPER_BOUND = "finetune", "joint"
"""The methods between which the closed gap is measured."""


MetricName = Literal["MAP", "accuracy"]

FACT_NAMES = {"matrix": "map_matrix", "overall": "map_all"}
"""JSON names of the scores of a result of facts, which scripts read."""


@dataclass(frozen=True)
class RunResult:
    """All measurements of one run of one method: one seed, one split into tasks.

    All scores are fractions in [0, 1]; a score that is not known is None: that of a task that was added later, at the
    stages before it, and of a task whose test photos are missing. Stage t is the model after task t; stage 0 is before
    training. Joint training has two stages, before and after.

    The score is MAP for facts and accuracy for classes of objects. The fields from `map_matrix_all` to `map_subset` are
    for facts only, and empty otherwise.

    Attributes:
        method: The method's name, such as "mas".
        seed: The run's seed.
        split: The name of the split into tasks, such as "random-0".
        tasks: `[T]` the names of the tasks; runs of different tasks are different sequences.
        matrix: `[stages, T]` the score of each task on its own test images.
        overall: `[stages]` MAP of all facts over all test images; or the mean accuracy of the tasks learned so far.
        seconds: Wall-clock time of the run.
        metric: The kind of score.
        map_matrix_all: `[stages, T]` MAP of each task's facts; the gallery is all test images.
        recall: Image-to-fact recall at the last stage, keys "1", "5" and "10".
        mrr: Image-to-fact mean reciprocal rank at the last stage.
        ap: (fact, AP over all test images) at the last stage, for each fact that has a test image.
        training_images: The number of training images of each fact in `ap`; empty for runs of version 0.1.
        verified_facts: True for each fact in `ap` that is ranked against verified negatives only; empty likewise.
        map_open: `[stages]` as `overall`, from the vectors only; empty where no scores of known facts were added.
        map_subset: `[stages]` MAP of the chosen subset of facts over all test images; empty where none was chosen.
        method_bytes: `[stages]` bytes that the method keeps between tasks.
        lams: `[T]` the weight of the penalty for each task, where it was chosen task by task.
        verified: `[T]` of each task's facts that are measured at the last stage, (number ranked against verified
            negatives only, number of all): the negatives of the others are images without the label. Empty where this
            was not recorded.
    """

    method: str
    seed: int
    split: str
    tasks: list[str]
    matrix: list[list[float | None]]
    overall: list[float | None]
    seconds: float
    metric: MetricName = "MAP"
    map_matrix_all: list[list[float | None]] = dataclasses.field(default_factory=list)
    recall: dict[str, float | None] = dataclasses.field(default_factory=dict)
    mrr: float | None = None
    ap: list[tuple[str, float]] = dataclasses.field(default_factory=list)
    training_images: list[int] = dataclasses.field(default_factory=list)
    verified_facts: list[bool] = dataclasses.field(default_factory=list)
    map_open: list[float] = dataclasses.field(default_factory=list)
    map_subset: list[float | None] = dataclasses.field(default_factory=list)
    method_bytes: list[int] = dataclasses.field(default_factory=list)
    lams: list[float | None] = dataclasses.field(default_factory=list)
    verified: list[tuple[int, int]] = dataclasses.field(default_factory=list)

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    @property
    def in_sequence(self) -> bool:
        """True if the run learned task after task, with a stage after each; joint training did not."""
        return self.method != UPPER_BOUND and len(self.matrix) == len(self.tasks) + 1

    @property
    def scores(self) -> list[float | None]:
        """`[T]` the score of each task on its own test images at the last stage."""
        return self.matrix[-1]

    @property
    def mean_score(self) -> float | None:
        """The mean of the known `scores`."""
        known = [score for score in self.scores if score is not None]
        return statistics.fmean(known) if known else None

    @property
    def final(self) -> float | None:
        """`overall` at the last stage."""
        return self.overall[-1]

    @property
    def scores_when_learned(self) -> list[float | None]:
        """`[T]` R[i, i], the score of each task just after it was learned; at the last stage for joint training."""
        if not self.in_sequence:
            return list(self.scores)
        return [self.matrix[task + 1][task] for task in range(len(self.tasks))]

    @property
    def drops(self) -> list[float | None]:
        """`[T]` R[i, i] - R[T, i], the loss of each task since it was learned; None for joint training."""
        if not self.in_sequence:
            return [None] * len(self.tasks)
        pairs = zip(self.scores_when_learned, self.scores, strict=True)
        return [None if before is None or now is None else before - now for before, now in pairs]

    @property
    def forgetting(self) -> float | None:
        """See `tripletcl.evaluation.forgetting`; on the tasks' own galleries."""
        return matrix.forgetting(self.matrix)

    @property
    def backward_transfer(self) -> float | None:
        """See `tripletcl.evaluation.backward_transfer`; on the tasks' own galleries."""
        return matrix.backward_transfer(self.matrix)

    @property
    def drop(self) -> float | None:
        """The mean of `drops` over the tasks before the last, which is minus the backward transfer."""
        transfer = self.backward_transfer if self.in_sequence else None
        return None if transfer is None else 0.0 - transfer

    @property
    def forward_transfer(self) -> float | None:
        """See `tripletcl.evaluation.forward_transfer`; on the tasks' own galleries."""
        return matrix.forward_transfer(self.matrix)

    def to_dict(self) -> dict[str, Any]:
        """Convert to lists, dicts and numbers for JSON, with the names in `FACT_NAMES` for a result of facts."""
        names = FACT_NAMES if self.metric == "MAP" else {}
        values = {**dataclasses.asdict(self), "ap": [list(pair) for pair in self.ap]}
        return {names.get(name, name): value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunResult:
        """Invert `to_dict`.

        Raises:
            UserError: a field is missing, unknown or of another type, or scores of a task or a stage are missing.
        """
        names = {known: name for name, known in FACT_NAMES.items()}
        try:
            result = validated(cls, {names.get(name, name): value for name, value in values.items()})
        except ValueError as error:
            raise UserError(f"not a run result: {error}") from error
        matrix, tasks = result.matrix, len(result.tasks)
        if not matrix or len(result.overall) != len(matrix) or any(len(row) != tasks for row in matrix):
            raise UserError(f"not a run result: it lacks scores of some of its {tasks} tasks or stages")
        return result


def gap_closed(result: RunResult, finetune: RunResult, joint: RunResult) -> float | None:
    """Compute the part of the gap between fine-tuning (0) and joint training (1) that a method closes.

    (score - score_finetune) / (score_joint - score_finetune), each overall, at the last stage. None if joint
    training is no better than fine-tuning, so that there is no gap, or if a score is not known.
    """
    score, lower, upper = result.final, finetune.final, joint.final
    if score is None or lower is None or upper is None or upper <= lower:
        return None
    return (score - lower) / (upper - lower)


def gap_closed_among(result: RunResult, results: Iterable[RunResult]) -> float | None:
    """Compute `gap_closed` with the fine-tuning and joint runs of the same seed, split and tasks; None without them."""
    same = _same_sequence(result, results)
    if LOWER_BOUND not in same or UPPER_BOUND not in same:
        return None
    return gap_closed(result, same[LOWER_BOUND], same[UPPER_BOUND])


def new_tasks(result: RunResult, finetune: RunResult) -> float | None:
    """Compute how much better than fine-tuning a method learns the tasks after the first: the cost of remembering.

    mean over i >= 2 of R[i, i] - R_finetune[i, i]. Higher is better; negative if the method is held back. None
    for a single task, for joint training, and if a score is not known.
    """
    if not (result.in_sequence and finetune.in_sequence):
        return None
    pairs = list(zip(result.scores_when_learned[1:], finetune.scores_when_learned[1:], strict=True))
    gains = [score - plain for score, plain in pairs if score is not None and plain is not None]
    return statistics.fmean(gains) if gains and len(gains) == len(pairs) else None


def new_tasks_among(result: RunResult, results: Iterable[RunResult]) -> float | None:
    """Compute `new_tasks` with the fine-tuning run of the same seed, split and tasks; None without one."""
    same = _same_sequence(result, results)
    return new_tasks(result, same[LOWER_BOUND]) if LOWER_BOUND in same else None


def _same_sequence(result: RunResult, results: Iterable[RunResult]) -> dict[str, RunResult]:
    """The runs of the same tasks in the same order with the same seed, by method."""
    key = (result.seed, result.split, result.tasks)
    return {run.method: run for run in results if (run.seed, run.split, run.tasks) == key}


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1) of a number over runs; std is None for a single run."""

    mean: float
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Spread | None:
        """Return None if any run lacks the number: a mean over some of the runs would not be comparable."""
        known = [value for value in values if value is not None]
        if not known or len(known) < len(values):
            return None
        return cls(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None)


MEASURES: dict[str, Callable[[RunResult, Sequence[RunResult]], float | None]] = {
    "overall": lambda run, runs: run.final,
    "mean_score": lambda run, runs: run.mean_score,
    "forgetting": lambda run, runs: run.forgetting,
    "backward_transfer": lambda run, runs: run.backward_transfer,
    "drop": lambda run, runs: run.drop,
    "new_tasks": new_tasks_among,
    "forward_transfer": lambda run, runs: run.forward_transfer,
    "gap_closed": gap_closed_among,
    "recall@5": lambda run, runs: run.recall.get("5"),
    "mrr": lambda run, runs: run.mrr,
    "seconds": lambda run, runs: run.seconds,
    "map_open": lambda run, runs: _last(run.map_open),
    "map_subset": lambda run, runs: _last(run.map_subset),
    "method_bytes": lambda run, runs: _last(run.method_bytes),
}
"""The numbers of a run among others that `summarise` gives, by name; None where a number is undefined."""


def summarise(results: Iterable[RunResult]) -> dict[str, dict[str, Spread | None]]:
    """Compute mean and sample standard deviation over seeds and splits.

    Returns:
        For each method, in order of appearance, the `Spread` of each of the MEASURES.

    Raises:
        UserError: a run given twice, see `check_distinct`.
    """
    runs = list(results)
    check_distinct(runs)
    return {
        method: {
            name: Spread.of([measure(run, runs) for run in runs if run.method == method])
            for name, measure in MEASURES.items()
        }
        for method in dict.fromkeys(run.method for run in runs)
    }


def check_distinct(results: Iterable[RunResult]) -> None:
    """Refuse a run that is given twice.

    Raises:
        UserError: two results have the same method, seed, split and tasks.
    """
    seen = set()
    for result in results:
        key = (result.method, result.seed, result.split, *result.tasks)
        if key in seen:
            raise UserError(f"two results of method {key[0]}, seed {key[1]}, split {key[2]}; each may count only once")
        seen.add(key)


def _last(stages: Sequence[float | None]) -> float | None:
    return stages[-1] if stages else None
