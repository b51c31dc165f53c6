"""Image networks of transformers checkpoints, `hf/<folder or name>`, in stages and with their own preprocessing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tripletcl.embedding.cuts import Stages, named, numbered
from tripletcl.errors import UserError

HF = "hf/"
"""The beginning of the names of checkpoints of transformers."""

CONVNEXT_CROPS_BELOW = 384
"""ConvNeXt's image processor crops only images that are scaled to less than this."""


@dataclass(frozen=True)
class Preprocessing:
    """The square that a network takes: scaled to `size`, its central `crop` taken, and normalised."""

    size: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def read_config(name: str, download: bool = False) -> Any:
    """Read the config of a checkpoint.

    Args:
        name: A folder, or a name of the Hugging Face Hub.
        download: Ask the hub; otherwise a name must have been downloaded before.

    Raises:
        UserError: there is no such checkpoint.
    """
    from transformers import AutoConfig

    with checkpoint_errors(name, download):
        return AutoConfig.from_pretrained(name, local_files_only=not download)


def load_model(name: str, weights: str = "bundled") -> tuple[Any, set[str]]:
    """Load a checkpoint as transformers does.

    Args:
        name: A folder, or a name of the Hugging Face Hub.
        weights: "bundled" (its own, which are on this machine), "download" (its own, from the hub), or "none" (random).

    Returns:
        The model, in float32, and the names of the weights that the checkpoint lacks, which are random.

    Raises:
        UserError: there is no such checkpoint.
    """
    from transformers import AutoModel

    config = read_config(name, weights == "download")
    with checkpoint_errors(name, weights == "download"), without_progress_bars():
        if weights == "none":
            return AutoModel.from_config(config).float(), set()
        model, report = AutoModel.from_pretrained(
            name, local_files_only=weights != "download", output_loading_info=True
        )
    return model.float(), set(report["missing_keys"])


@contextmanager
def checkpoint_errors(name: str, download: bool) -> Iterator[None]:
    """Turn the errors of transformers inside the block into one sentence."""
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        where = "on this machine, and it cannot be downloaded" if download else "on this machine"
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"there is no checkpoint {name!r} of transformers {where}: give the folder of one, or the name of one that "
            f"was downloaded ({reason})"
        ) from error


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Let transformers draw no progress bar inside the block."""
    from transformers.utils import logging as transformers_logging

    enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            transformers_logging.enable_progress_bar()


def build_stages(name: str, weights: str) -> tuple[Stages, Preprocessing]:
    """Build the image network of a checkpoint, or the image tower of a CLIP-like one, in stages.

    Raises:
        UserError: there is no such checkpoint, it takes no images, or its preprocessing cannot be reproduced.
    """
    if weights not in ("bundled", "none", "download"):
        raise UserError(
            f"hf/{name} has weights of its own: model.weights is bundled, download or none, not {weights!r}"
        )
    preprocessing = read_preprocessing(name, weights == "download")
    model, missing = load_model(name, weights)
    tower = image_tower(model, name)
    cut = CUTS.get(tower.config.model_type)
    stages = _whole(tower) if cut is None else cut(tower, missing)
    with torch.no_grad():
        x = torch.zeros(1, len(preprocessing.mean), preprocessing.crop, preprocessing.crop)
        for stage in stages.values():
            x = stage.eval()(x)
    return (stages, x.shape[1]), preprocessing


def image_tower(model: Any, name: str) -> Any:
    """Return the part of a model that takes images.

    Raises:
        UserError: it takes none.
    """
    tower = getattr(model, "vision_model", model)
    if getattr(tower, "main_input_name", "") != "pixel_values":
        raise UserError(f"hf/{name} holds a {type(model).__name__}, which takes no images")
    return tower


def read_preprocessing(name: str, download: bool = False) -> Preprocessing:
    """Read how a checkpoint's own image processor prepares an image.

    Raises:
        UserError: there is none, or it does anything else than scale, cut out the central square and normalise.
    """
    from transformers import AutoImageProcessor

    with checkpoint_errors(name, download):
        processor = AutoImageProcessor.from_pretrained(name, local_files_only=not download)
    size, crop = _sides(getattr(processor, "size", None)), None
    if getattr(processor, "do_center_crop", None):
        crop = _sides(processor.crop_size)
    elif getattr(processor, "crop_pct", None) and size and size < CONVNEXT_CROPS_BELOW:
        size, crop = int(size / processor.crop_pct), size
    plain = processor.do_resize and processor.do_rescale and not getattr(processor, "do_pad", None)
    if not plain or not size or (crop or size) > size or crop == 0:
        raise UserError(
            f"the image processor of hf/{name} does not only scale images, cut out their central square and normalise "
            "it: a network that needs anything else cannot be used"
        )
    normalises = processor.do_normalize
    mean, std = (processor.image_mean, processor.image_std) if normalises else ((0.0,) * 3, (1.0,) * 3)
    return Preprocessing(size, crop or size, tuple(mean), tuple(std))


def _sides(size: Any) -> int:
    """The side of a processor's square, or its shortest edge; 0 if it is neither."""
    given = {key: value for key, value in dict(size or {}).items() if value}
    if set(given) == {"shortest_edge"}:
        return int(given["shortest_edge"])
    return int(given["height"]) if set(given) == {"height", "width"} and given["height"] == given["width"] else 0


# --- stages of families ----------------------------------------------------------------------------------------------


class Step(nn.Module):
    """A part of a network that takes more than its input and returns more than its output.

    Args:
        module: The part.
        arguments: Its other arguments, the same for every image.
    """

    def __init__(self, module: nn.Module, **arguments: Any) -> None:
        super().__init__()
        self.module, self.arguments = module, arguments

    def forward(self, x: Tensor) -> Tensor:
        out = self.module(x, **self.arguments)
        return out[0] if isinstance(out, tuple) else out


class FirstToken(nn.Module):
    """The first token: `[B, N, C]` to `[B, C]`."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0]


class Mean(nn.Module):
    """The mean over some dimensions."""

    def __init__(self, *dimensions: int) -> None:
        super().__init__()
        self.dimensions = dimensions

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=self.dimensions)


class Pooled(nn.Module):
    """A whole network: images to the features that it pools itself."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(pixel_values=images).pooler_output.flatten(1)


def _whole(tower: Any) -> dict[str, nn.Module]:
    return {"backbone": Pooled(tower)}


def _blocks(tower: Any, *places: str) -> nn.ModuleList:
    """The blocks, whose place differs between releases of transformers."""
    for place in places:
        found = tower
        for part in place.split("."):
            found = getattr(found, part, None)
        if found is not None:
            return found
    raise UserError(f"this release of transformers arranges {type(tower).__name__} in a way that is not known")


def _transformer(
    tower: Any, stem: dict[str, nn.Module], head: dict[str, nn.Module], **arguments: Any
) -> dict[str, nn.Module]:
    blocks = _blocks(tower, "encoder.layers", "encoder.layer", "layers")
    steps = numbered("block", [Step(block, **arguments) for block in blocks])
    return {"stem": named(stem), **steps, "head": named(head)}


def _cut_vit(tower: Any, missing: set[str]) -> dict[str, nn.Module]:
    """Split a ViT; the first token stands for the image where the checkpoint has no weights of a pooler."""
    has_pooler = tower.pooler is not None and not any("pooler." in name for name in missing)
    head = {"norm": tower.layernorm, "pool": tower.pooler if has_pooler else FirstToken()}
    return _transformer(tower, {"embeddings": tower.embeddings}, head)


def _cut_dinov2(tower: Any, missing: set[str]) -> dict[str, nn.Module]:
    return _transformer(tower, {"embeddings": tower.embeddings}, {"norm": tower.layernorm, "pool": FirstToken()})


def _cut_clip(tower: Any, missing: set[str]) -> dict[str, nn.Module]:
    stem = {"embeddings": tower.embeddings, "norm": tower.pre_layrnorm}
    return _transformer(tower, stem, {"pool": FirstToken(), "norm": tower.post_layernorm}, attention_mask=None)


def _cut_siglip(tower: Any, missing: set[str]) -> dict[str, nn.Module]:
    head = {"norm": tower.post_layernorm, "pool": tower.head}
    return _transformer(tower, {"embeddings": tower.embeddings}, head, attention_mask=None)


def _cut_convnext(tower: Any, missing: set[str]) -> dict[str, nn.Module]:
    stages = numbered("stage", tower.encoder.stages)
    return {"stem": tower.embeddings, **stages, "head": named({"pool": Mean(-2, -1), "norm": tower.layernorm})}


def _cut_swin(tower: Any, missing: set[str]) -> dict[str, nn.Module]:
    height, width = tower.embeddings.patch_grid
    stages: dict[str, nn.Module] = {}
    for number, layer in enumerate(tower.encoder.layers, 1):
        stages[f"stage{number}"] = Step(layer, input_dimensions=(height, width))
        if layer.downsample is not None:
            height, width = (height + 1) // 2, (width + 1) // 2
    head = {"norm": tower.layernorm, "pool": Mean(1)}
    return {"stem": Step(tower.embeddings), **stages, "head": named(head)}


CUTS: dict[str, Callable[[Any, set[str]], dict[str, nn.Module]]] = {
    "vit": _cut_vit,
    "dinov2": _cut_dinov2,
    "clip_vision_model": _cut_clip,
    "siglip_vision_model": _cut_siglip,
    "convnext": _cut_convnext,
    "swin": _cut_swin,
}
"""Splits of a family by the type of model in its config; any other network of images is one stage named `backbone`."""
