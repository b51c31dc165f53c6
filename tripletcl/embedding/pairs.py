"""A CLIP-like checkpoint as both branches of an embedder, with heads that start at its projection."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tripletcl.embedding.hf import HF, load_model, read_config
from tripletcl.embedding.spec import EmbedderSpec
from tripletcl.embedding.text_encoders import PROJECTED, config_width
from tripletcl.errors import UserError

MAP_SETTINGS = ("hidden", "head_std", "text_projection")
"""Settings of maps that would not start at the checkpoint's projection."""


def with_pair(spec: EmbedderSpec) -> EmbedderSpec:
    """Return the settings with the branches and the width of their `pair`; the same settings without one.

    Raises:
        UserError: there is no such checkpoint, it has not both towers, or another setting contradicts it.
    """
    if spec.pair is None:
        return spec
    config = read_config(spec.pair, spec.weights == "download")
    if config.model_type not in PROJECTED:
        raise UserError(
            f"model.pair {spec.pair} is a {config.model_type}, but a pair is a CLIP or SigLIP checkpoint with a tower "
            "for images and one for texts"
        )
    own: dict[str, Any] = {"backbone": HF + spec.pair, "text": spec.pair, "width": config_width(spec.pair, config)}
    default = EmbedderSpec()
    for name, value in own.items():
        if getattr(spec, name) not in (value, getattr(default, name)):
            raise UserError(
                f"model.{name} is {getattr(spec, name)!r}, but model.pair {spec.pair} makes it {value!r}: leave one out"
            )
    if changed := [name for name in MAP_SETTINGS if getattr(spec, name) != getattr(default, name)]:
        raise UserError(
            f"model.{changed[0]} adds a map that does not start at the projection of model.pair: leave one out"
        )
    return replace(spec, **own)


@torch.no_grad()
def start_at_projection(spec: EmbedderSpec, heads: nn.ModuleList) -> None:
    """Set each head, once for each unit that it computes, to the checkpoint's map from images to the common space.

    Raises:
        UserError: there is none, and the widths of the towers differ.
    """
    assert spec.pair is not None
    layers = [head for head in heads if isinstance(head, nn.Linear)]
    projection = _projection(spec.pair, spec.weights, layers[0].in_features)
    if projection.shape[0] != spec.width:
        raise UserError(
            f"the towers of {spec.pair} do not meet: images give vectors of {projection.shape[0]} numbers, texts of "
            f"{spec.width}"
        )
    for head in layers:
        head.weight.copy_(projection.repeat(head.out_features // spec.width, 1))
        head.bias.zero_()


def _projection(name: str, weights: str, features: int) -> Tensor:
    """Return the map `[D, C]` from pooled features of images to the common space; a SigLIP has none."""
    model, _ = load_model(name, weights)
    projection = getattr(model, "visual_projection", None)
    return torch.eye(features) if projection is None else projection.weight
