"""Sequences of object-recognition tasks: from settings to a learner, and the runs that learned them."""

from tripletcl.objects.experiment import ObjectExperiment, ObjectScores, build_objects
from tripletcl.objects.runs import ObjectRun, evaluate_objects, train_objects

__all__ = ["ObjectExperiment", "ObjectRun", "ObjectScores", "build_objects", "evaluate_objects", "train_objects"]
