"""Protection of what was learned in training loops of other libraries: a module and an extra for each."""

from __future__ import annotations

from collections.abc import Iterable

from torch.optim import Optimizer

from tripletcl.errors import UserError


def needs(module: str, what: str) -> UserError:
    """The error of a plugin whose library is not installed, or older than it needs."""
    extra = module.rpartition(".")[2]
    return UserError(f"{module} needs {what} or newer: pip install 'tripletcl[{extra}]'")


def learning_rate(optimizers: Iterable[Optimizer]) -> float:
    """The learning rate of all groups of some optimizers.

    Raises:
        UserError: They differ.
    """
    rates = sorted({group["lr"] for optimizer in optimizers for group in optimizer.param_groups})
    if len(rates) != 1:
        raise UserError(
            f"the proximal step takes one learning rate, and the optimizer's groups have {', '.join(map(str, rates))}"
        )
    return float(rates[0])
