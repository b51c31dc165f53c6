"""Every method by name. A method of your own is one class in one file and one line here."""

from tripletcl.continual import Method
from tripletcl.mas import MAS
from tripletcl.methods.frozen import Frozen
from tripletcl.methods.joint import Joint

METHODS: dict[str, type[Method]] = {
    "finetune": Method,
    "mas": MAS,
    "joint": Joint,
    "frozen": Frozen,
}

__all__ = ["MAS", "METHODS", "Frozen", "Joint"]
