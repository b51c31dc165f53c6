"""Learn `<subject, predicate, object>` facts from images, task after task, without forgetting; query what is known.

from tripletcl import FactEmbedder, FactIndex
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tripletcl.data import Fact, FactTable, read_table
    from tripletcl.embedding import Classifier, FactEmbedder
    from tripletcl.errors import UserError
    from tripletcl.retrieval import FactIndex
    from tripletcl.web.client import Client

__version__ = "0.2.0.dev0"

__all__ = [
    "Classifier",
    "Client",
    "Fact",
    "FactEmbedder",
    "FactIndex",
    "FactTable",
    "UserError",
    "__version__",
    "read_table",
]

_HOMES = {
    "Classifier": "tripletcl.embedding",
    "Client": "tripletcl.web.client",
    "Fact": "tripletcl.data",
    "FactEmbedder": "tripletcl.embedding",
    "FactIndex": "tripletcl.retrieval",
    "FactTable": "tripletcl.data",
    "UserError": "tripletcl.errors",
    "read_table": "tripletcl.data",
}


def __getattr__(name: str) -> Any:
    """Import on first use: the command line's help may not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tripletcl' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
