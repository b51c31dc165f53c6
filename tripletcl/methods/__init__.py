"""Every method by name. A method of your own is one class in one file; it is named by its path, or announced."""

from tripletcl.mas import MAS, MASAlpha
from tripletcl.methods.analytic import Analytic
from tripletcl.methods.combined import Combined
from tripletcl.methods.ebll import EBLL
from tripletcl.methods.ewc import EWC
from tripletcl.methods.frozen import Frozen
from tripletcl.methods.imm import IMM
from tripletcl.methods.joint import Joint
from tripletcl.methods.lwf import LwF
from tripletcl.methods.registry import (
    METHODS,
    MethodSettings,
    announced_methods,
    build_method,
    method_class,
    method_name,
)
from tripletcl.methods.si import SI

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
    "announced_methods",
    "build_method",
    "method_class",
    "method_name",
]
