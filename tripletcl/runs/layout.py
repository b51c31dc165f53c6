"""Names of the files and folders of a run.

    RUN/config.yaml               the resolved settings
    RUN/environment.json          versions and machine
    RUN/metrics.jsonl             one line per logged step ("train"), finished stage ("stage"), tried lam ("attempt"),
                                  and measurement of importance on photos ("adapt")
    RUN/tasks.json                the tasks: the fact ids of each, or their names, classes and numbers of images
    RUN/checkpoints/              the latest checkpoints, and those that a lesson can be undone to
    RUN/stages/stage-02/          the model after task 2, and in the run's own folder:
        vectors.safetensors         facts only: vectors of the test images and of all facts
        facts.parquet               facts only: AP and number of training images of each fact
        calibration.json            facts only: what the scores mean, fitted on the test images when first needed
    RUN/result.json               the figures, once all tasks are learned
    RUN/lock                      exists while a process writes to the run
    RUN/change-PID.json           while a command changes the run, and after it was killed: see `tripletcl.runs.change`
    RUN/train.log                 the output of a run of a comparison with several jobs

Of runs that learn facts:

    RUN/tables/base.csv           the first table as it was when training began
    RUN/tables/further-01.csv     the follow-up tables
    RUN/kept/test.safetensors     features of test images, as long as the trunk is frozen
    RUN/kept/texts.safetensors    vectors of texts
    RUN/index/                    the photo index
    RUN/drift.json                the measurements of `tripletcl drift`

A comparison's folder holds one run folder per run, the tables and the page, and compare.json.
"""

from __future__ import annotations

from pathlib import Path

from tripletcl.files.documents import CLASSIFIER, EMBEDDER, ENVIRONMENT, METRICS, RESULT, SETTINGS, run_folders
from tripletcl.files.places import stage_folders, stage_number

__all__ = [
    "BASE_TABLE", "CALIBRATION", "CLASSIFIER", "COMPARISON", "DRIFT", "EMBEDDER", "ENVIRONMENT", "FACT_SCORES",
    "FEATURES", "INDEX", "METRICS", "RESULT", "SETTINGS", "TASKS", "TEXTS", "TRAIN_LOG", "VECTORS", "follow_up_table",
    "follow_up_tables", "run_folders", "stage_folders", "stage_number",
]  # fmt: skip

TASKS, DRIFT, TRAIN_LOG, INDEX = "tasks.json", "drift.json", "train.log", "index"
BASE_TABLE = "tables/base.csv"
FEATURES, TEXTS = "kept/test.safetensors", "kept/texts.safetensors"
"""Files and folders of a run."""

VECTORS, FACT_SCORES, CALIBRATION = "vectors.safetensors", "facts.parquet", "calibration.json"
"""Files of a stage, next to those of its model."""

COMPARISON = "compare.json"
"""A file of a comparison."""


def follow_up_table(run: Path, number: int) -> Path:
    """Return the file that stores a run's follow-up table of this number, from 1."""
    return run / "tables" / f"further-{number:02d}.csv"


def follow_up_tables(run: Path) -> list[Path]:
    """List the files of follow-up tables that are stored."""
    return list((run / "tables").glob("further-*.csv"))
