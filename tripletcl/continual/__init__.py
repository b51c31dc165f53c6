"""Methods' five hooks, the one training loop, and sequences of tasks that survive a kill."""

from tripletcl.continual.method import Learner, Method
from tripletcl.continual.optimization import Training
from tripletcl.continual.run_folder import Position, RunFolder
from tripletcl.continual.sequence import SequenceRunner
from tripletcl.continual.task import Batch, InputSource, Task, plain_batches

__all__ = [
    "Batch",
    "InputSource",
    "Learner",
    "Method",
    "Position",
    "RunFolder",
    "SequenceRunner",
    "Task",
    "Training",
    "plain_batches",
]
