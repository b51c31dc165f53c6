"""torch and torchvision must come from matching builds; say so plainly where they do not."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version

from tripletcl.errors import UserError


def check_torch_pair() -> None:
    """Import torchvision, so that a build made for another torch is named before anything else fails.

    A mismatched pair raises RuntimeError ("operator torchvision::nms does not exist") or fails to load a library.

    Raises:
        UserError: the two do not belong together, naming both versions and what to install.
    """
    try:
        importlib.import_module("torchvision")
    except (RuntimeError, ImportError, OSError, AttributeError) as error:
        raise UserError(
            f"torch {_version('torch')} and torchvision {_version('torchvision')} do not work together ({error}): "
            "install both anew, in one command, `pip install --upgrade --force-reinstall torch torchvision`"
        ) from error


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"
