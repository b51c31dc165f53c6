from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from tripletcl.continual import Position, RunFolder
from tripletcl.errors import UserError


def test_another_config_is_refused_and_nothing_changed(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", "seed: 0\nlr: 0.1\n").log("stage", Position())
    with pytest.raises(UserError, match=r"there `lr: 0\.1`, here `lr: 0\.2`"):
        RunFolder(tmp_path / "run", "seed: 0\nlr: 0.2\n")
    assert (tmp_path / "run" / "config.yaml").read_text() == "seed: 0\nlr: 0.1\n"


def test_a_run_that_never_started_may_be_corrected(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", "table: missing.csv\n")
    RunFolder(tmp_path / "run", "table: there.csv\n")
    assert (tmp_path / "run" / "config.yaml").read_text() == "table: there.csv\n"


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_text("")
    with pytest.raises(UserError, match="no run folder"):
        RunFolder(tmp_path, "seed: 0\n")


def test_only_one_process_at_a_time(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path / "run", "a: 1\n"), RunFolder(tmp_path / "run", "a: 1\n")
    with first.locked(), pytest.raises(UserError, match="another process"), second.locked():
        pass
    with second.locked():
        pass


def test_a_process_with_other_settings_changes_nothing_while_another_prepares_its_data(tmp_path: Path) -> None:
    """Nothing was computed yet, so the settings could be corrected: but not under the process that reads them."""
    first = RunFolder(tmp_path / "run", "a: 1\n")
    with first.locked():
        with pytest.raises(UserError, match="another process"):
            RunFolder(tmp_path / "run", "a: 2\n")
        RunFolder(tmp_path / "run", "a: 1\n")
    assert (tmp_path / "run" / "config.yaml").read_text() == "a: 1\n"


@pytest.mark.parametrize("name", [".config.yaml.123.tmp", "lock"])
def test_what_a_process_killed_in_its_first_write_left_is_no_obstacle(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("se")
    RunFolder(tmp_path, "seed: 0\n")
    assert (tmp_path / "config.yaml").read_text() == "seed: 0\n"


def test_the_latest_intact_checkpoint_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = RunFolder(tmp_path / "run", "a: 1\n")
    for step in range(4):
        run.save(Position(1, epoch=2, step=step), {"x": torch.full((500,), float(step))})
    files = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert len(files) == 2
    files[-1].write_bytes(files[-1].read_bytes()[: files[-1].stat().st_size // 2])
    with caplog.at_level(logging.WARNING, "tripletcl"):
        position, state = run.latest() or pytest.fail("no checkpoint")
    assert position == Position(1, epoch=2, step=2)
    assert state["x"][0] == 2
    assert "the checkpoint before it is used" in caplog.text


def test_lines_of_repeated_steps_are_dropped(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", "a: 1\n")
    places = [(0, 0, 0, 0), (0, 0, 1, 6), (0, 1, 0, 7), (0, 1, 1, 5), (0, 1, 1, 6), (0, 2, 0, 0), (1, 0, 0, 0)]
    for place in places:
        run.log("train", Position(*place), loss=1.0)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "sta')  # a line cut by a kill
    run.drop_metrics_from(Position(stage=0, attempt=1, epoch=1, step=6))
    assert [(m["stage"], m["attempt"], m["epoch"], m["step"]) for m in run.metrics] == places[:4]


def test_a_line_cut_short_is_dropped_before_the_next_is_appended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunFolder(tmp_path / "run", "a: 1\n")
    run.log("train", Position(step=1), loss=1.0)
    whole = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    for fragment in (b'{"kind": "train", "sta', b"\x00\x00", b'{"kind": "caf\xc3'):
        (tmp_path / "run" / "metrics.jsonl").write_bytes(whole + fragment)
        assert [m["step"] for m in run.metrics] == [1]
        caplog.clear()
        run.log("train", Position(step=2), loss=1.0)
        assert [m["step"] for m in run.metrics] == [1, 2]
        assert "metrics.jsonl" in caplog.text
    (tmp_path / "run" / "metrics.jsonl").write_bytes(b"{")
    run.log("train", Position(step=3), loss=1.0)
    assert [m["step"] for m in run.metrics] == [3]


@pytest.mark.parametrize("line", [b'{"kind": "tr{"kind": "train"}', b"\xff", b"3", b"", b'{"step": 1}'])
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    run = RunFolder(tmp_path / "run", "a: 1\n")
    run.log("train", Position(step=1), loss=1.0)
    with (tmp_path / "run" / "metrics.jsonl").open("ab") as file:
        file.write(line + b"\n")
    run.log("train", Position(step=2), loss=1.0)
    with pytest.raises(UserError, match=r"line 2 of .*metrics\.jsonl is damaged"):
        _ = run.metrics


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", "a: 1\n")
    (tmp_path / "run" / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"disk is full: .*metrics\.jsonl"):
        run.log("train", Position(), loss=1.0)


def test_a_pickle_instead_of_a_checkpoint_is_not_opened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = RunFolder(tmp_path / "run", "a: 1\n")
    run.save(Position(step=1), {"x": torch.ones(3)})
    torch.save(
        {"position": "evil"}, tmp_path / "run" / "checkpoints" / "stage-009-epoch-00000-step-0000000.safetensors"
    )
    with caplog.at_level(logging.WARNING, "tripletcl"):
        position, _ = run.latest() or pytest.fail("no checkpoint")
    assert position == Position(step=1)
    assert "is damaged" in caplog.text


def test_checkpoints_that_can_be_undone_to_are_kept_with_their_base(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", "a: 1\n", kept_from=2)
    large = torch.randn(3000)
    for stage in range(1, 6):
        for step in (0, 1):
            run.save(Position(stage, step=step), {"large": large, "x": torch.full((5,), float(stage))})
    starts = [stage for stage in range(1, 7) if run.has_checkpoint(stage)]
    assert starts[-4:] == [2, 3, 4, 5]
    sizes = [
        path.stat().st_size for path in sorted((tmp_path / "run" / "checkpoints").glob("stage-00[345]*step-0000000*"))
    ]
    assert max(sizes) < 5000 < 4 * large.numel()
    assert run.position == Position(5, step=1)
    run.drop_stages_after(3)
    position, state = run.latest() or pytest.fail("no checkpoint")
    assert (position, state["x"][0]) == (Position(3), 3)
    assert torch.equal(state["large"], large)
    run.kept_from = None
    run.save(Position(4), {"large": large})
    run.finish({})
    assert [path.name[:9] for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["stage-004"]


def test_checkpoints_and_stages_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", "a: 1\n", last_file="model")
    for stage in (998, 999, 1000, 1001):
        run.save(Position(stage), {"x": torch.ones(3)})
    assert run.position == Position(1001)
    run.drop_stages_after(1000)
    position, _ = run.latest() or pytest.fail("no checkpoint")
    assert position == Position(1000)
    for stage in (0, 2, 11, 99, 100, 101):
        run.stage_folder(stage).mkdir(parents=True)
        (run.stage_folder(stage) / "model").write_text("")
    run.stage_folder(102).mkdir()  # killed before its model was complete
    assert run.stages == [0, 2, 11, 99, 100, 101]
    run.drop_stages_after(99)
    assert run.stages == [0, 2, 11, 99]


def test_the_lock_is_reentrant(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", "a: 1\n")
    with run.locked():
        with run.locked():
            pass
        with pytest.raises(UserError, match="another process"), RunFolder(tmp_path / "run", "a: 1\n").locked():
            pass
