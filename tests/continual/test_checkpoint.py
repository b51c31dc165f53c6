from __future__ import annotations

import errno
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from tripletcl.continual.checkpoint import (
    base_of,
    load_state,
    load_values,
    random_states,
    restore_random_states,
    save_state,
)
from tripletcl.errors import UserError
from tripletcl.files import write_atomically


def test_a_nested_state_is_restored(tmp_path: Path) -> None:
    state = {
        "model": {
            "layer.weight": torch.arange(6.0).reshape(2, 3).t(),
            "layer.bias": torch.ones(2, dtype=torch.bfloat16),
        },
        "method": {"learned": True, "deep": {"count": 3, "t": torch.tensor(4)}},
        "empty": {},
        "seconds": 1.5,
    }
    save_state(tmp_path / "a.safetensors", state)
    back = load_state(tmp_path / "a.safetensors")
    assert torch.equal(back["model"]["layer.weight"], state["model"]["layer.weight"])
    assert back["model"]["layer.bias"].dtype == torch.bfloat16
    assert back["method"]["learned"] is True
    assert back["method"]["deep"] == {"count": 3, "t": torch.tensor(4)}
    assert back["empty"] == {}
    assert back["seconds"] == 1.5


@pytest.mark.parametrize("keep", [0, 5, 200, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "a.safetensors"
    save_state(path, {"x": torch.randn(1000)})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if 0 < keep < 1 else int(keep)])
    with pytest.raises(UserError, match=r"a\.safetensors is damaged .*restore it from a copy"):
        load_state(path)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("the pickle was opened",)


def test_a_pickle_is_refused_unopened(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match=r"a\.safetensors is damaged"):
        load_state(path)


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full_disk(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match="disk is full"):
        write_atomically(path, full_disk)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_random_states_are_restored(tmp_path: Path) -> None:
    save_state(tmp_path / "a.safetensors", random_states())
    first = torch.rand(3), random.random(), np.random.rand()  # noqa: NPY002  (the global state is what is tested)
    restore_random_states(load_state(tmp_path / "a.safetensors"))
    again = torch.rand(3), random.random(), np.random.rand()  # noqa: NPY002
    assert torch.equal(first[0], again[0])
    assert first[1:] == again[1:]


def test_a_checkpoint_refers_to_a_base_if_most_of_it_is_equal(tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{name}.safetensors" for name in "abc")
    large, small = torch.randn(5000), torch.randn(10)
    save_state(first, {"method": {"sums": large, "few": small}, "seconds": 1})
    save_state(second, {"method": {"sums": large.clone(), "few": small + 1}, "seconds": 2}, first)
    save_state(third, {"method": {"sums": large + 1, "few": small}, "seconds": 3}, first)
    assert second.stat().st_size < 0.1 * first.stat().st_size < third.stat().st_size
    assert (base_of(first), base_of(second), base_of(third)) == (None, first, None)
    back = load_state(second)
    assert torch.equal(back["method"]["sums"], large)
    assert torch.equal(back["method"]["few"], small + 1)
    assert back["seconds"] == load_values(second)["seconds"] == 2
    first.write_bytes(first.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"a\.safetensors is damaged .*restore it from a copy"):
        load_state(second)
    save_state(second, {"sums": large}, first)
    assert base_of(second) is None, "nothing can lean on a damaged one"
