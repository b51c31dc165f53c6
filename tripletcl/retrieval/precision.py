"""The precision in which an index stores vectors and features: float32, or float16 in half the bytes.

Rows are normalised in float32 and then rounded. Scores are computed from the stored numbers, which float32 and float64
hold exactly, so an index of float16 answers like one of float32 that holds the same rounded numbers.
"""

from __future__ import annotations

import sys
from typing import Literal

import numpy as np

from tripletcl.errors import UserError

Precision = Literal["float32", "float16"]
PRECISIONS = ("float32", "float16")


def round_to(precision: str, rows: np.ndarray) -> np.ndarray:
    """Round numbers to the precision.

    Raises:
        UserError: a number is too large for it.
    """
    with np.errstate(over="ignore"):
        rounded = rows.astype(precision, copy=False)
    if precision == "float16" and not np.isfinite(rounded).all():
        raise UserError("a feature of a photo is larger than float16 can hold: index the photos in float32")
    return rounded


def to_float32(rows: np.ndarray) -> np.ndarray:
    """Return rows in float32, those of float16 as a copy.

    torch converts several times as fast as numpy, to the same numbers; where nothing else needs it, to import it takes
    longer.
    """
    if rows.dtype == np.float32:
        return rows
    torch = sys.modules.get("torch")
    return rows.astype(np.float32) if torch is None else torch.from_numpy(rows.copy()).float().numpy()
