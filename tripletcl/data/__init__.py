"""Facts, tables of facts, splits into tasks, sets of labelled images, and images: decoded, cached, augmented.

A name is imported on first use: asking an index needs no tables, and checking a table no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tripletcl.data.augment import Augment
    from tripletcl.data.cache import ImageCache
    from tripletcl.data.check import CheckReport, Problem, check_table
    from tripletcl.data.fact_sets import FactSetSpec, read_fact_set
    from tripletcl.data.fact_table import SPLITS, FactTable
    from tripletcl.data.facts import UNITS, WILDCARD, Fact, Query, as_query, parse_query
    from tripletcl.data.images import decode_image, list_images
    from tripletcl.data.sets import ObjectSet, read_object_set
    from tripletcl.data.source import ArraySource, ImageSource, PermutedSource
    from tripletcl.data.splits import held_out_facts, split_facts
    from tripletcl.data.tables import read_table

__all__ = [
    "SPLITS",
    "UNITS",
    "WILDCARD",
    "ArraySource",
    "Augment",
    "CheckReport",
    "Fact",
    "FactSetSpec",
    "FactTable",
    "ImageCache",
    "ImageSource",
    "ObjectSet",
    "PermutedSource",
    "Problem",
    "Query",
    "as_query",
    "check_table",
    "decode_image",
    "held_out_facts",
    "list_images",
    "parse_query",
    "read_fact_set",
    "read_object_set",
    "read_table",
    "split_facts",
]

_HOMES = {
    "ArraySource": "source",
    "Augment": "augment",
    "CheckReport": "check",
    "Fact": "facts",
    "FactSetSpec": "fact_sets",
    "FactTable": "fact_table",
    "ImageCache": "cache",
    "ImageSource": "source",
    "ObjectSet": "sets",
    "PermutedSource": "source",
    "Problem": "check",
    "Query": "facts",
    "SPLITS": "fact_table",
    "UNITS": "facts",
    "WILDCARD": "facts",
    "as_query": "facts",
    "check_table": "check",
    "decode_image": "images",
    "held_out_facts": "splits",
    "list_images": "images",
    "parse_query": "facts",
    "read_fact_set": "fact_sets",
    "read_object_set": "sets",
    "read_table": "tables",
    "split_facts": "splits",
}


def __getattr__(name: str) -> Any:
    """Import a name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
