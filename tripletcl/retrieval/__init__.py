"""Asking a photo collection: structured queries with wildcards, and which facts a photo shows."""

from tripletcl.retrieval.describe import ShownFact, describe
from tripletcl.retrieval.index import FactIndex, Hit
from tripletcl.retrieval.model import Embedder
from tripletcl.retrieval.query import (
    Query,
    UnknownUnit,
    parse_query,
    query_vector,
    query_vectors,
    unknown_units,
)

__all__ = [
    "Embedder",
    "FactIndex",
    "Hit",
    "Query",
    "ShownFact",
    "UnknownUnit",
    "describe",
    "parse_query",
    "query_vector",
    "query_vectors",
    "unknown_units",
]
