"""What a short run imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("own_cache")

SLOW = {"timm", "transformers", "faiss", "sklearn", "matplotlib"}
"""Each takes half a second at least, and a perceptron on MNIST needs none (torchvision reads MNIST)."""


def test_a_short_run_does_not_import_what_it_does_not_need(tmp_path: Path) -> None:
    """A whole run, both optimizers: start, checkpoints, importance, penalty, evaluation."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom digits import split_config, write_mnist\n"
        "from tripletcl.runs.train import train\n"
        f"root = Path({str(tmp_path)!r})\nmnist = write_mnist(root / 'mnist')\n"
        "for name in ('sgd', 'adamw'):\n"
        "    training = {'epochs': 1, 'optimizer': name, 'checkpoint_minutes': 0, 'clip_norm': 1.0}\n"
        "    train(split_config(mnist, {'name': 'mas'}, tasks=2, training=training), root / name)\n"
        f"slow = {sorted(SLOW)} \n"
        "print(*[name for name in slow if name in sys.modules])\n"
    )
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
    command = [sys.executable, "-c", f"import sys\nsys.path[:0] = {paths}\n{code}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == []
