"""The scores of single facts at a stage: a Parquet file of the stage's folder, since there may be very many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tripletcl.evaluation import StageScores
from tripletcl.files import reading, write_atomically

FIELDS = ("ap", "training_images", "verified_facts")
"""The fields of `StageScores` and `RunResult` that have an entry for each fact."""


def write_fact_scores(path: Path, scores: StageScores) -> None:
    """Write the facts, with AP, number of training images and kind of negatives, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    facts, values = zip(*scores.ap, strict=True) if scores.ap else ((), ())
    columns = {
        "fact": pa.array(facts, pa.string()),
        "ap": pa.array(values, pa.float64()),
        "training_images": pa.array(scores.training_images, pa.int64()),
        "verified": pa.array(scores.verified_facts, pa.bool_()),
    }
    write_atomically(path, lambda draft: pq.write_table(pa.table(columns), draft, write_page_checksum=True))


def read_fact_scores(path: Path) -> dict[str, Any]:
    """Read what `write_fact_scores` wrote, as the FIELDS of a `RunResult`.

    Raises:
        UserError: the file is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with reading(path):
        content = path.read_bytes()
        try:
            table = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(error) from error
        facts, values, *rest = (table[name].to_pylist() for name in ("fact", "ap", "training_images", "verified"))
        return dict(zip(FIELDS, [list(zip(facts, values, strict=True)), *rest], strict=True))
