"""Asking a photo collection: structured queries with wildcards, and which facts a photo shows."""

from tripletcl.data.facts import Query, parse_query
from tripletcl.retrieval.answering import answer
from tripletcl.retrieval.calibration import Calibration, fit_calibration
from tripletcl.retrieval.database import About
from tripletcl.retrieval.describe import ShownFact, describe, describe_photos
from tripletcl.retrieval.details import PhotoDetails
from tripletcl.retrieval.filters import Filter
from tripletcl.retrieval.index import FactIndex, Hit, writing
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
from tripletcl.retrieval.sheet import contact_sheet
from tripletcl.retrieval.stores.address import about_index
from tripletcl.retrieval.table import Changes

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
