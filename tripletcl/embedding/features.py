"""The features of a frozen trunk, computed once for every image and, if asked for, its mirror image."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tripletcl.data.source import ALL, Source, to_device
from tripletcl.embedding.feature_shards import COMPUTED_AGAIN, FeatureShards, ShardedArray
from tripletcl.embedding.trunk import Trunk
from tripletcl.files import locked, translate_errors, writable_folder
from tripletcl.progress import report

log = logging.getLogger("tripletcl")


class FeatureSource:
    """Frozen features `[N, V, ...]` of N images and, if V is 2, their mirror images, float16, memory-mapped.

    Replaces the source that it was computed from: the learner's input is then the feature, not the image, and the only
    augmentation is the choice between image and mirror image. Each of several networks has shards of its own, which
    other combinations with it use as well.
    """

    def __init__(self, arrays: Sequence[np.ndarray | ShardedArray], device: torch.device | str = "cpu") -> None:
        self.arrays = [each if isinstance(each, ShardedArray) else ShardedArray([each]) for each in arrays]
        self.device = torch.device(device)

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
        arrays = [_load(source, trunk, folder, mirrored) for trunk in branch.networks]
        found = [array for array in arrays if array is not None]
        return cls(found, source.device) if len(found) == len(arrays) else None

    def __len__(self) -> int:
        return len(self.arrays[0])

    def batch(self, ids: np.ndarray, generator: torch.Generator | None, mine: slice = ALL) -> Tensor:
        """Features `[B, ...]` float32 of the images; with a generator, of image or mirror image at random."""
        count = self.arrays[0].shape[1]
        if generator is None or count == 1:
            views = np.zeros(len(ids), np.int64)
        else:
            views = torch.randint(count, (len(ids),), generator=generator, device=generator.device).cpu().numpy()
        parts = [
            to_device(torch.from_numpy(array[ids[mine], views[mine]]), self.device).float() for array in self.arrays
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _opened(source: Source, trunk: Trunk, folder: Path, mirrored: bool, batch_size: int) -> ShardedArray:
    """Map the features of one network into memory; compute and store those that are missing first."""
    if (array := _load(source, trunk, folder, mirrored)) is not None:
        return array
    with writable_folder(folder) as own:
        place = own / _name(source, trunk, mirrored)
        with locked(place.with_suffix(".lock")):
            place.with_suffix(".part").unlink(missing_ok=True)  # of an earlier version
            shards = FeatureShards(place, len(source))  # another process may have computed some meanwhile
            with translate_errors(place):
                _compute(shards, source, trunk, mirrored, batch_size)
            array = shards.open()
    assert array is not None
    return array


def _load(source: Source, trunk: Trunk, folder: Path, mirrored: bool) -> ShardedArray | None:
    """Map stored features into memory; None if some are missing or damaged."""
    place = folder / _name(source, trunk, mirrored)
    whole = place.with_suffix(".npy")  # one file, as earlier versions wrote
    try:
        return ShardedArray([np.load(whole, mmap_mode="r")])
    except FileNotFoundError:
        pass
    except (OSError, ValueError, EOFError) as error:
        log.warning("%s is damaged (%s): %s", whole, error, COMPUTED_AGAIN)
    return FeatureShards(place, len(source)).open()


def _name(source: Source, branch: Trunk, mirrored: bool) -> str:
    return f"features-{_key(source, branch)}{'' if mirrored else '-plain'}"


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


def _compute(shards: FeatureShards, source: Source, branch: Trunk, mirrored: bool, batch_size: int) -> None:
    """Write the shards that are missing."""
    missing = shards.missing()
    done = len(source) - sum(len(shards.ranges[number]) for number in missing)
    shape = (1 + mirrored, *branch.features(source.batch(np.zeros(1, np.int64), None)).shape[1:])
    for number in missing:

        def blocks(images: range, before: int = done) -> Iterator[np.ndarray]:
            for start in range(0, len(images), batch_size):
                batch = source.batch(np.array(images[start : start + batch_size]), None)
                views = [batch, batch.flip(3)] if mirrored else [batch]
                features = torch.stack([branch.features(view) for view in views], dim=1)  # [B, V, ...]
                yield features.half().cpu().numpy()
                report("frozen features", before + start + len(batch), len(source))

        shards.write(number, shape, blocks(shards.ranges[number]))
        done += len(shards.ranges[number])
