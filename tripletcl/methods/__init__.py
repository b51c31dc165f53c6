"""Every method by name. A method of your own is one class in one file and one line here."""

from collections.abc import Sequence
from typing import Any

from tripletcl.continual import Method
from tripletcl.mas import MAS, MASAlpha
from tripletcl.methods.analytic import Analytic
from tripletcl.methods.combined import Combined
from tripletcl.methods.ebll import EBLL
from tripletcl.methods.ewc import EWC
from tripletcl.methods.frozen import Frozen
from tripletcl.methods.imm import IMM
from tripletcl.methods.joint import Joint
from tripletcl.methods.lwf import LwF
from tripletcl.methods.si import SI

METHODS: dict[str, type[Method]] = {
    "finetune": Method,
    "mas": MAS,
    "mas_alpha": MASAlpha,
    "ewc": EWC,
    "si": SI,
    "imm": IMM,
    "lwf": LwF,
    "ebll": EBLL,
    "analytic": Analytic,
    "joint": Joint,
    "frozen": Frozen,
}

MethodSettings = Sequence[dict[str, Any]]
"""The name of each method and the arguments of its constructor; several methods are combined."""


def build_method(settings: MethodSettings) -> Method:
    """Build the method, or the combination of methods, of checked settings.

    Raises:
        UserError: Methods that cannot be combined, or a value that a constructor refuses.
    """
    methods = [METHODS[s["name"]](**{key: value for key, value in s.items() if key != "name"}) for s in settings]
    return methods[0] if len(methods) == 1 else Combined(methods)


def method_name(settings: MethodSettings) -> str:
    """The name in tables: "mas", "mas+lwf"."""
    return "+".join(s["name"] for s in settings)


__all__ = [
    "EBLL",
    "EWC",
    "IMM",
    "MAS",
    "METHODS",
    "SI",
    "Analytic",
    "Combined",
    "Frozen",
    "Joint",
    "LwF",
    "MASAlpha",
    "MethodSettings",
    "build_method",
    "method_name",
]
