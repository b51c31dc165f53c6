"""Memory Aware Synapses: exact per-sample importance, the quadratic penalty, the method."""

from tripletcl.mas.importance import importance
from tripletcl.mas.method import MAS
from tripletcl.mas.penalty import QuadraticPenalty
from tripletcl.mas.statistics import per_sample_statistic

__all__ = ["MAS", "QuadraticPenalty", "importance", "per_sample_statistic"]
