"""Fetch those sets that torchvision fetches, into the folders where it puts them."""

from __future__ import annotations

from pathlib import Path


def flowers102(root: Path) -> None:
    """Into root/flowers-102."""
    from torchvision.datasets import Flowers102

    Flowers102(root, download=True)


def fgvc_aircraft(root: Path) -> None:
    """Into root/fgvc-aircraft-2013b."""
    from torchvision.datasets import FGVCAircraft

    FGVCAircraft(root, download=True)


def voc_actions(root: Path) -> None:
    """Into root/VOCdevkit/VOC2012; the archive of the detection task has the actions too."""
    from torchvision.datasets import VOCDetection

    VOCDetection(root, year="2012", image_set="train", download=True)


def svhn(root: Path) -> None:
    """Into root."""
    from torchvision.datasets import SVHN

    for split in ("train", "test"):
        SVHN(root, split=split, download=True)


def mnist(root: Path) -> None:
    """Into root/MNIST/raw."""
    from torchvision.datasets import MNIST

    MNIST(root, download=True)


def cifar10(root: Path) -> None:
    """Into root/cifar-10-batches-py."""
    from torchvision.datasets import CIFAR10

    CIFAR10(root, download=True)


def cifar100(root: Path) -> None:
    """Into root/cifar-100-python."""
    from torchvision.datasets import CIFAR100

    CIFAR100(root, download=True)
