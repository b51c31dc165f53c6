"""Embedding on Ray: whatever is killed, every photo is there once, and parts that were done are not touched."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from tripletcl.errors import UserError
from tripletcl.gallery import embed_photos
from tripletcl.progress import Progress, listening

pytest.importorskip("ray.data", reason='needs pip install "tripletcl[cluster]"')
SHARD, SHARDS = 4, 10

HEALTH_CHECKS = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 3,
}
"""A lost node is noticed in seconds, where Ray by itself waits for a minute."""


def actors() -> list[int]:
    """The workers of the Ray that this process has started."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            parents[int(path.name)] = int(fields[1]), (path / "cmdline").read_bytes()
        except (OSError, IndexError):
            continue

    def is_ours(pid: int) -> bool:
        while pid in parents and pid != os.getpid():
            pid = parents[pid][0]
        return pid == os.getpid()

    return [pid for pid, (_, command) in parents.items() if command.startswith(b"ray::MapWorker") and is_ours(pid)]


@pytest.mark.slow
def test_a_killed_driver_and_a_killed_worker(model: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "ray"
    command = [
        *(sys.executable, "-m", "tripletcl", "embed", str(model), str(photos), "--out", str(out)),
        *("--engine", "ray", "--workers", "1", "--shard", str(SHARD)),
    ]
    driver = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    limit = time.monotonic() + 240
    while len(list(out.glob("part-*.parquet"))) < 2 and driver.poll() is None:
        assert time.monotonic() < limit
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    before = {part: part.stat().st_mtime_ns for part in out.glob("part-*.parquet")}
    assert before
    killed: list[int] = []

    def kill(progress: Progress) -> None:
        if progress.label == "shards" and not killed and progress.done < SHARDS:
            killed.extend(actors()[:1])
            assert killed
            os.kill(killed[0], signal.SIGKILL)

    if len(before) < SHARDS - 1:
        with listening(kill):
            result = embed_photos(model, photos, out, shard=SHARD, engine="ray", workers=2)
        assert killed
    else:  # the driver was faster than its killer
        result = embed_photos(model, photos, out, shard=SHARD, engine="ray", workers=2)
    assert (result.shards, result.photos, result.broken) == (SHARDS, 40, 3)
    assert {part: part.stat().st_mtime_ns for part in before} == before
    assert not [path for path in out.iterdir() if path.name.endswith(".tmp")]
    embed_photos(model, photos, tmp_path / "here", shard=SHARD)
    for part in sorted((tmp_path / "here").glob("part-*")):
        rows, expected = (parquet.read_table(folder / part.name).to_pylist() for folder in (out, tmp_path / "here"))
        for row, other in zip(rows, expected, strict=True):
            assert (row["path"], row["broken"]) == (other["path"], other["broken"])
            if row["broken"] is None:
                assert np.allclose(row["vector"], other["vector"], atol=2e-3)


@pytest.mark.slow
def test_a_node_that_is_lost(model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker is started again where there is room, and its shards are embedded there."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    settings = {"num_cpus": 0, "include_dashboard": False, "_system_config": HEALTH_CHECKS}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=settings)
    lost: list[int] = []

    def lose(progress: Progress) -> None:
        if progress.label == "shards" and progress.done >= 2 and not lost:
            lost.append(progress.done)
            cluster.remove_node(nodes[0], allow_graceful=False)

    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        with listening(lose):
            result = embed_photos(model, photos, tmp_path, shard=SHARD, engine="ray", workers=2)
    finally:
        cluster.shutdown()
    assert lost
    assert lost[0] < SHARDS
    assert (result.shards, result.photos, result.broken) == (SHARDS, 40, 3)
    assert len(list(tmp_path.glob("part-*.parquet"))) == SHARDS
    assert not list(tmp_path.glob("*.tmp"))


def test_a_cluster_that_is_not_there_is_named(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(UserError, match=f"there is no Ray cluster at {address}: "):
            embed_photos(model, photos, tmp_path, shard=8, engine="ray")
