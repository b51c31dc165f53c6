"""Metrics of a model and of a sequence: average precision, recall, forgetting and transfer."""

from tripletcl.evaluation.average_precision import average_precision, average_precision_of, mean_average_precision
from tripletcl.evaluation.cosine import cosine_sums, mean_cosines, unit_blocks
from tripletcl.evaluation.equal_queries import equal_queries, merge_relevance
from tripletcl.evaluation.evaluator import FactEvaluator, StageScores
from tripletcl.evaluation.matrix import backward_transfer, forgetting, forward_transfer
from tripletcl.evaluation.probe import score_probe
from tripletcl.evaluation.result import (
    RunResult,
    Spread,
    gap_closed,
    gap_closed_among,
    new_tasks,
    new_tasks_among,
    summarise,
)
from tripletcl.evaluation.unseen import UnseenScores, score_unseen, unseen_facts

__all__ = [
    "FactEvaluator",
    "RunResult",
    "Spread",
    "StageScores",
    "UnseenScores",
    "average_precision",
    "average_precision_of",
    "backward_transfer",
    "cosine_sums",
    "equal_queries",
    "forgetting",
    "forward_transfer",
    "gap_closed",
    "gap_closed_among",
    "mean_average_precision",
    "mean_cosines",
    "merge_relevance",
    "new_tasks",
    "new_tasks_among",
    "score_probe",
    "score_unseen",
    "summarise",
    "unit_blocks",
    "unseen_facts",
]
