"""Asking a photo collection: structured queries with wildcards, and which facts a photo shows.

To ask needs no torch; what describes photos and fits calibrations does, and is imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tripletcl.data.facts import Query, parse_query
from tripletcl.retrieval.answering import answer
from tripletcl.retrieval.calibration import Calibration
from tripletcl.retrieval.database import About
from tripletcl.retrieval.details import PhotoDetails
from tripletcl.retrieval.filters import Filter
from tripletcl.retrieval.index import FactIndex, writing
from tripletcl.retrieval.model import Embedder, PhotoEmbedder
from tripletcl.retrieval.request import (
    Request,
    Term,
    UnknownUnit,
    notes_on,
    parse_request,
    query_vectors,
    unknown_units,
)
from tripletcl.retrieval.searched import Hit
from tripletcl.retrieval.sheet import contact_sheet
from tripletcl.retrieval.stores.address import about_index
from tripletcl.retrieval.table import Changes

if TYPE_CHECKING:
    from tripletcl.retrieval.describing import ShownFact, describe, describe_photos
    from tripletcl.retrieval.fitting import fit_calibration

__all__ = [
    "About",
    "Calibration",
    "Changes",
    "Embedder",
    "FactIndex",
    "Filter",
    "Hit",
    "PhotoDetails",
    "PhotoEmbedder",
    "Query",
    "Request",
    "ShownFact",
    "Term",
    "UnknownUnit",
    "about_index",
    "answer",
    "contact_sheet",
    "describe",
    "describe_photos",
    "fit_calibration",
    "notes_on",
    "parse_query",
    "parse_request",
    "query_vectors",
    "unknown_units",
    "writing",
]


_HOMES = {
    "ShownFact": "describing",
    "describe": "describing",
    "describe_photos": "describing",
    "fit_calibration": "fitting",
}


def __getattr__(name: str) -> Any:
    """Import what needs torch on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
