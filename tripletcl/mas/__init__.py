"""Memory Aware Synapses: exact per-sample importance, the quadratic penalty, the methods."""

from tripletcl.mas.alpha import MASAlpha
from tripletcl.mas.importance import importance, task_importance
from tripletcl.mas.method import MAS
from tripletcl.mas.penalty import PenaltyForm, PenaltyMethod, QuadraticPenalty
from tripletcl.mas.statistics import Engine, Scalar, batch_statistic, every_output, per_sample_statistic, squared_norm
from tripletcl.mas.synapses import ElasticWeightConsolidation, MemoryAwareSynapses, SynapticIntelligence

__all__ = [
    "MAS",
    "ElasticWeightConsolidation",
    "Engine",
    "MASAlpha",
    "MemoryAwareSynapses",
    "PenaltyForm",
    "PenaltyMethod",
    "QuadraticPenalty",
    "Scalar",
    "SynapticIntelligence",
    "batch_statistic",
    "every_output",
    "importance",
    "per_sample_statistic",
    "squared_norm",
    "task_importance",
]
