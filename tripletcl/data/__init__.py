"""Facts, tables of facts, splits into tasks, sets of labelled images, and images: decoded, cached, augmented."""

from typing import TYPE_CHECKING, Any

from tripletcl.data.cache import ImageCache
from tripletcl.data.check import CheckReport, Problem, check_table
from tripletcl.data.fact_sets import FactSetSpec, read_fact_set
from tripletcl.data.fact_table import SPLITS, FactTable
from tripletcl.data.facts import UNITS, WILDCARD, Fact, Query, as_query, parse_query
from tripletcl.data.images import decode_image, list_images
from tripletcl.data.sets import ObjectSet, read_object_set
from tripletcl.data.splits import held_out_facts, split_facts
from tripletcl.data.tables import read_table

if TYPE_CHECKING:
    from tripletcl.data.augment import Augment
    from tripletcl.data.source import ArraySource, ImageSource, PermutedSource

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


def __getattr__(name: str) -> Any:
    """Import what needs torch on first use: checking a table of facts does not wait for torch."""
    if name == "Augment":
        from tripletcl.data.augment import Augment

        return Augment
    if name in ("ArraySource", "ImageSource", "PermutedSource"):
        from tripletcl.data import source

        return getattr(source, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
