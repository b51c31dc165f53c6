"""The trunk's pass through `torch.compile`, where `Training.compile` asks for it.

`Learner.represent` alone is compiled. It is nearly all of a step and the same function for every task, so it is
compiled once, and not anew for the heads of each task: those, the loss and what methods add to it run as they are, and
so do importance, evaluation and the old model that a method asks. The modules stay what they are.

Nothing depends on what a process compiled before, as a run that was taken up must go on as it would have: shapes are
always constants, and a batch that is smaller than the others, such as an epoch's last, is not compiled at all. While
the trunk stands still (`Training.head_epochs`) it has a second form, without a backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from tripletcl.continual.method import Learner
from tripletcl.errors import UserError

Compile = Literal["no", "default", "reduce-overhead", "max-autotune"]

Represent = Callable[[Tensor], Tensor]

FORMS = 64
"""So many forms of one function are kept: of different networks, sizes of batches, precisions, with and without a
backward pass. What is above them runs uncompiled."""


def represent_of(learner: Learner, mode: Compile, batch_size: int) -> Represent:
    """`learner.represent` for the training loop, compiled for batches of that size.

    With CUDA graphs (`reduce-overhead`, `max-autotune` on a GPU) what it returned and the gradients that a backward
    pass left are gone when it is called again.
    """
    if mode == "no":
        return learner.represent
    compiled = _compile(learner.represent, mode)

    def represent(inputs: Tensor) -> Tensor:
        if len(inputs) != batch_size:
            return learner.represent(inputs)
        if mode != "default" and inputs.is_cuda:
            torch.compiler.cudagraph_mark_step_begin()
        result: Tensor = compiled(inputs)
        return result

    return represent


def check_compile(mode: Compile, device: torch.device) -> None:
    """Compile a little function, so that what is missing is missed before anything is trained.

    Raises:
        UserError: it cannot be compiled.
    """
    if mode == "no":
        return
    try:
        found = _compile(_trial, mode)(torch.ones(3, device=device)).tolist()
        if found != [4.0] * 3:
            raise ArithmeticError(f"a trial gave {found}")
    except Exception as error:
        cause = getattr(error, "inner_exception", error)
        reason = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        raise UserError(
            f"training.compile is {mode}, but torch.compile does not work here ({reason.rstrip('.')}): a CPU needs a "
            "C++ compiler and a GPU needs Triton, or set it to 'no'"
        ) from error


def _trial(x: Tensor) -> Tensor:
    return torch.relu(3 * x) + x


def _compile(function: Callable[[Tensor], Tensor], mode: Compile) -> Callable[[Tensor], Tensor]:
    import torch._dynamo.config  # a second to import, for those alone who ask for it

    torch._dynamo.config.recompile_limit = max(FORMS, torch._dynamo.config.recompile_limit)
    return torch.compile(function, dynamic=False, **_how(mode))


def _how(mode: Compile) -> dict[str, Any]:
    """The mode, with the random numbers (dropout) that PyTorch draws without compiling."""
    import torch._inductor

    return {"options": {**torch._inductor.list_mode_options(mode), "fallback_random": True}}
