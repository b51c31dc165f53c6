"""The features of a frozen trunk, computed once for every image and, if asked for, its mirror image."""

from __future__ import annotations

import hashlib
import io
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tripletcl.data.source import Source, to_device
from tripletcl.embedding.trunk import Trunk
from tripletcl.files import locked, sync_to_disk, translate_errors, writable_folder
from tripletcl.progress import report

log = logging.getLogger("tripletcl")

SYNCED = 4096
"""Images whose features are synced to the disk at a time, a multiple of the batch."""


class FeatureSource:
    """Frozen features `[N, V, ...]` of N images and, if V is 2, their mirror images, float16, memory-mapped.

    Replaces the source that it was computed from: the learner's input is then the feature, not the image, and the only
    augmentation is the choice between image and mirror image. Each of several networks has a file of its own, which
    other combinations with it use as well.
    """

    def __init__(self, arrays: Sequence[np.ndarray], device: torch.device | str = "cpu") -> None:
        self.arrays, self.device = list(arrays), torch.device(device)

    @classmethod
    def open(
        cls,
        source: Source,
        branch: Trunk,
        folder: Path,
        *,
        mirrored: bool = True,
        batch_size: int = 16,  # small batches stay in the CPU's cache: three times faster than 64
    ) -> FeatureSource:
        """Open the features in the folder, or compute and store them there.

        Their name depends on the content and size of the images, the frozen weights and the pooled stages.

        Args:
            mirrored: Also those of the mirror images.
        """
        arrays = [_opened(source, trunk, folder, mirrored, batch_size) for trunk in branch.networks]
        return cls(arrays, source.device)

    @classmethod
    def stored(cls, source: Source, branch: Trunk, folder: Path, mirrored: bool = True) -> FeatureSource | None:
        """Open the features if they are in the folder, else return None; nothing is computed."""
        arrays = [_load(_path(source, trunk, folder, mirrored)) for trunk in branch.networks]
        found = [array for array in arrays if array is not None]
        return cls(found, source.device) if len(found) == len(arrays) else None

    def __len__(self) -> int:
        return len(self.arrays[0])

    def batch(self, ids: np.ndarray, generator: torch.Generator | None) -> Tensor:
        """Features `[B, ...]` float32 of the images; with a generator, of image or mirror image at random."""
        count = self.arrays[0].shape[1]
        if generator is None or count == 1:
            views = np.zeros(len(ids), np.int64)
        else:
            views = torch.randint(count, (len(ids),), generator=generator, device=generator.device).cpu().numpy()
        parts = [to_device(torch.from_numpy(array[ids, views]), self.device).float() for array in self.arrays]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _opened(source: Source, trunk: Trunk, folder: Path, mirrored: bool, batch_size: int) -> np.ndarray:
    """Map the features of one network into memory; compute and store them first if they are missing."""
    path = _path(source, trunk, folder, mirrored)
    if (array := _load(path)) is None:
        with writable_folder(folder) as own, locked(own / path.with_suffix(".lock").name):
            path = own / path.name
            if (array := _load(path)) is None:  # another process may have computed them meanwhile
                with translate_errors(path):
                    _compute(path, source, trunk, mirrored, batch_size)
                array = np.load(path, mmap_mode="r")
    return array


def _load(path: Path) -> np.ndarray | None:
    """Map stored features into memory; None if they are missing, or cut short."""
    try:
        return np.load(path, mmap_mode="r")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        log.warning("%s is damaged (%s): what it held is computed again", path, error)
        return None


def _path(source: Source, branch: Trunk, folder: Path, mirrored: bool) -> Path:
    return folder / f"features-{_key(source, branch)}{'' if mirrored else '-plain'}.npy"


def _key(source: Source, branch: Trunk) -> str:
    digest = hashlib.sha256(source.fingerprint.encode())
    for name, tensor in {"mean": branch.mean, "std": branch.std, **branch.frozen.state_dict()}.items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    for stage in branch.pooled if not branch.has_trainable_stages else ():
        digest.update(stage.encode())
    if branch.size is not None:
        digest.update(f"scaled to {branch.size}, cut to {branch.crop}".encode())
    return digest.hexdigest()[:24]


def _compute(path: Path, source: Source, branch: Trunk, mirrored: bool, batch_size: int) -> None:
    """Write the features to a file beside path, which is renamed at the end.

    After every SYNCED images the file is synced: if more are in it, those are on the disk, also after a loss of power,
    and a process goes on with them where another one was killed.
    """
    shape = (1 + mirrored, *branch.features(source.batch(np.zeros(1, np.int64), None)).shape[1:])
    count, row, part = len(source), 2 * math.prod(shape), path.with_suffix(".part")
    header = _header((count, *shape))
    try:
        # Written in blocks and not through a memory map, where a full disk would end the process without an error.
        with part.open("ab") as file:
            done = max(0, file.tell() - len(header) - 1) // row // SYNCED * SYNCED  # a multiple of the batches
            file.truncate(len(header) + done * row if done else 0)
            file.write(b"" if done else header)
            for start in range(done, count, batch_size):
                if start % SYNCED == 0:
                    file.flush()
                    os.fsync(file.fileno())
                images = source.batch(np.arange(start, min(start + batch_size, count)), None)
                views = [images, images.flip(3)] if mirrored else [images]
                features = torch.stack([branch.features(view) for view in views], dim=1)  # [B, V, ...]
                file.write(features.half().cpu().numpy().tobytes())
                report("frozen features", start + len(images), count)
        sync_to_disk(part)
        part.replace(path)
    except OSError:  # a full disk: leave nothing on it
        part.unlink(missing_ok=True)
        raise


def _header(shape: tuple[int, ...]) -> bytes:
    """The header of an .npy file of float16."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f2", "fortran_order": False, "shape": shape})
    return header.getvalue()
