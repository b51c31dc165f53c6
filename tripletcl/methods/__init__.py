"""Every method by name. A method of your own is one class in one file and one line here."""

from collections.abc import Sequence
from typing import Any

from tripletcl.continual import Method
from tripletcl.mas import MAS
from tripletcl.methods.combined import Combined
from tripletcl.methods.frozen import Frozen
from tripletcl.methods.joint import Joint

METHODS: dict[str, type[Method]] = {
    "finetune": Method,
    "mas": MAS,
    "joint": Joint,
    "frozen": Frozen,
}

MethodSettings = Sequence[dict[str, Any]]
"""Each method's name and the arguments of its constructor; several are combined."""


def build_method(settings: MethodSettings) -> Method:
    """The method, or the combination of methods, of checked settings.

    Raises:
        UserError: methods that cannot be combined, or a value that a constructor refuses.
    """
    methods = [METHODS[s["name"]](**{key: value for key, value in s.items() if key != "name"}) for s in settings]
    return methods[0] if len(methods) == 1 else Combined(methods)


def method_name(settings: MethodSettings) -> str:
    """What tables call it: "mas", "mas+lwf"."""
    return "+".join(s["name"] for s in settings)


__all__ = ["MAS", "METHODS", "Combined", "Frozen", "Joint", "MethodSettings", "build_method", "method_name"]
