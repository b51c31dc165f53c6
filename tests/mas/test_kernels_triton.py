"""The kernel for graphics processors without one: by Triton's interpreter, and by its compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def run(script: str, **settings: str) -> None:
    """In a process of its own, because Triton reads its settings when it is imported."""
    pytest.importorskip("triton", reason="the kernel is written in Triton, which is not installed")
    file = Path(__file__).with_name(script)
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""} | settings
    ended = subprocess.run([sys.executable, file], capture_output=True, text=True, check=False, env=environment)
    assert ended.returncode == 0, ended.stderr


def test_kernel_equals_one_sample_at_a_time() -> None:
    run("triton_cases.py", TRITON_INTERPRET="1")


def test_kernel_compiles_for_a_device_that_is_not_there(tmp_path: Path) -> None:
    """In each precision; tensor cores are asked for where the factors are rounded, and only there."""
    run("triton_compiles.py", TRITON_CACHE_DIR=str(tmp_path))
