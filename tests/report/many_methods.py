"""Random runs of a large comparison: every method of the literature, several splits or sequences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tripletcl.evaluation.result import RunResult

PARAMETER_BYTES = 13_500_000

METHODS: dict[str, tuple[float, float, float, float]] = {
    # method: (share of a task that remains after each later one, score just after learning, memory, memory a task)
    "finetune": (0.55, 0.62, 0, 0),
    "si": (0.75, 0.58, 3, 0),
    "ewc": (0.80, 0.57, 2, 0),
    "imm": (0.82, 0.50, 0, 2),
    "lwf": (0.78, 0.60, 1, 0),
    "ebll": (0.80, 0.58, 1, 0.2),
    "mas": (0.91, 0.58, 2, 0),
    "mas-scopelocal": (0.87, 0.57, 2, 0),
    "mas_alpha": (0.90, 0.57, 3, 0),
    "analytic": (0.95, 0.45, 0.4, 0.05),
    "mas+lwf": (0.93, 0.59, 3, 0),
    "frozen": (1.0, 0.62, 0, 0),
    "joint": (1.0, 0.66, 0, 0),
}


def random_runs(splits: int = 3, tasks: int = 4, methods: dict[str, tuple[float, float, float, float]] = METHODS):
    """Runs of every method on every split; a run's numbers depend only on its method and split."""
    return [random_run(m, split, tasks, *numbers) for split in range(splits) for m, numbers in methods.items()]


def random_run(
    method: str, split: int, tasks: int, remains: float, learned: float, at_once: float, each: float
) -> RunResult:
    generator = np.random.default_rng([split, *method.encode()])
    matrix = stages(method, tasks, remains, learned) * generator.normal(1, 0.04, (1, tasks))
    matrix = np.clip(matrix + generator.normal(0, 0.01, matrix.shape), 0.01, 1)
    facts = [f"<person, action {i}, thing {i % 7}>" for i in range(40)]
    memory = [0.0] + [at_once + each * stage for stage in range(1, len(matrix))]
    return RunResult(
        method=method,
        seed=0,
        split=f"random-{split}",
        tasks=[f"task {task + 1}" for task in range(tasks)],
        matrix=matrix.tolist(),
        map_matrix_all=(0.8 * matrix).tolist(),
        overall=(0.8 * matrix.mean(axis=1)).tolist(),
        recall={"1": 0.2, "5": float(0.7 * matrix[-1].mean()), "10": 0.6},
        mrr=float(0.6 * matrix[-1].mean()),
        ap=[(fact, float(np.clip(generator.normal(matrix[-1].mean(), 0.2), 0, 1))) for fact in facts],
        seconds=float(generator.normal(200, 10)),
        map_open=(0.6 * matrix.mean(axis=1)).tolist(),
        map_subset=(0.1 + 0.8 * matrix[:, : tasks // 2].mean(axis=1)).tolist(),
        method_bytes=[int(PARAMETER_BYTES * factor) for factor in memory],
        lams=[None, *generator.choice([1.5, 3, 6], tasks - 1).tolist()] if method in ("mas", "ewc", "si") else [],
    )


def random_object_runs(
    sequences: Sequence[Sequence[str]], seeds: int = 3, methods: dict[str, tuple[float, float, float, float]] = METHODS
) -> list[RunResult]:
    """Accuracies of every method on sequences of object recognition; tasks differ in difficulty."""
    return [
        random_object_run(m, seed, list(tasks), *numbers)
        for tasks in sequences
        for seed in range(seeds)
        for m, numbers in methods.items()
    ]


def random_object_run(
    method: str, seed: int, tasks: list[str], remains: float, learned: float, at_once: float, each: float
) -> RunResult:
    """One run; with several heads a task has no score before it is learned."""
    generator = np.random.default_rng([seed, *method.encode(), *"".join(tasks).encode()])
    ease = np.array([0.55 + 0.4 * (sum(map(ord, task)) % 97) / 97 for task in tasks])
    matrix = stages(method, len(tasks), 0.7 + 0.3 * remains, learned) / 0.66 * ease
    matrix = np.clip(matrix + generator.normal(0, 0.006, matrix.shape), 0, 1)
    unknown = np.tri(*matrix.shape, -1) == 0 if len(matrix) > 2 or len(tasks) == 1 else np.arange(2)[:, None] == 0
    unknown = np.broadcast_to(unknown, matrix.shape)
    known: list[list[float | None]] = [
        [None if hidden else float(score) for score, hidden in zip(row, mask, strict=True)]
        for row, mask in zip(matrix, unknown, strict=True)
    ]
    means = [[score for score in row if score is not None] for row in known]
    memory = [0.0] + [at_once + each * stage for stage in range(1, len(matrix))]
    return RunResult(
        method=method,
        seed=seed,
        split=" → ".join(tasks),
        tasks=tasks,
        matrix=known,
        overall=[float(np.mean(row)) if row else None for row in means],
        seconds=float(generator.normal(200, 10)),
        metric="accuracy",
        method_bytes=[int(PARAMETER_BYTES * factor) for factor in memory],
        lams=[None, *generator.choice([1.5, 3, 6], len(tasks) - 1).tolist()] if method in ("mas", "ewc", "si") else [],
    )


def stages(method: str, tasks: int, remains: float, learned: float) -> np.ndarray:
    """Scores `[stages, tasks]`: low before a task is learned, and lower with every later task."""
    if method == "joint":
        return np.stack([np.full(tasks, 0.03), np.full(tasks, learned)])
    matrix = np.full((tasks + 1, tasks), 0.05)
    for task in range(tasks):
        for stage in range(task + 1, tasks + 1):
            score = learned if method != "frozen" or task == 0 else 0.12
            matrix[stage, task] = 0.05 + (score - 0.05) * remains ** (stage - task - 1)
    return matrix
