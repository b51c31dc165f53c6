"""The hooks of a method, the one training loop, and sequences of tasks that survive a kill.

A method overrides what it needs of the hooks that the loop calls (`start`, `prefetch`, `before_task`, `before_forward`,
`extra_loss`, `before_step`, `after_step`, `after_task`), of `check` and `add_importance`, and of its state.
"""

from tripletcl.continual.method import Inputs, Lam, Learner, Method, Properties, checked_weight
from tripletcl.continual.optimization import Training
from tripletcl.continual.run_folder import Position, RunFolder
from tripletcl.continual.sequence import SequenceRunner
from tripletcl.continual.stability import Stability
from tripletcl.continual.task import Batch, InputSource, Task, plain_batches

__all__ = [
    "Batch",
    "InputSource",
    "Inputs",
    "Lam",
    "Learner",
    "Method",
    "Position",
    "Properties",
    "RunFolder",
    "SequenceRunner",
    "Stability",
    "Task",
    "Training",
    "checked_weight",
    "plain_batches",
]
