"""The network of a model by its settings: one backbone, or several frozen ones side by side."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from tripletcl.embedding.backbones import Backbone, build_backbone
from tripletcl.embedding.spec import ClassifierSpec, EmbedderSpec
from tripletcl.embedding.trunk import ALL, SideBySide, Trunk
from tripletcl.errors import UserError

log = logging.getLogger("tripletcl")


def trunk_settings(spec: EmbedderSpec | ClassifierSpec) -> dict[str, Any]:
    """Return the arguments of `Trunk` that a spec asks for; random weights come from torch's global generator.

    Raises:
        UserError: a setting has an unknown name, or several networks are not frozen.
    """
    if isinstance(spec.backbone, str):
        if spec.network_sizes:
            raise UserError("model.network_sizes is for a list of networks; the size of one is model.image_size")
        backbone = build_backbone(spec.backbone, spec.weights)
        if backbone.size is not None and backbone.size > spec.image_size:
            message = "photos of %d pixels are scaled up to the %d of %s: model.image_size=%d keeps what they show"
            log.warning(message, spec.image_size, backbone.size, backbone.name, backbone.size)
        return {"backbone": backbone, "freeze_until": spec.freeze_until, "pooled": spec.pooled}
    return {"backbone": _side_by_side(spec, spec.backbone), "freeze_until": ALL}


def _side_by_side(spec: EmbedderSpec | ClassifierSpec, names: Sequence[str]) -> Backbone:
    """Build several networks as a backbone of one stage, which is frozen."""
    if not names or spec.freeze_until != ALL:
        raise UserError(
            f"model.backbone names {len(names)} networks in a list, which are read side by side and never trained: "
            "name at least one, and set model.freeze_until to all"
        )
    sizes = spec.network_sizes or (None,) * len(names)
    if len(sizes) != len(names):
        raise UserError(f"model.network_sizes has {len(sizes)} sizes for {len(names)} networks: give each its own")
    networks = [build_backbone(name, spec.weights) for name in names]
    known = {stage for network in networks for stage in network.stage_names[:-1]}
    if unknown := [stage for stage in spec.pooled if stage not in known]:
        raise UserError(f"pooled {unknown[0]!r} is a stage of none of {', '.join(names)}")
    trunks = [_frozen(network, size, spec) for network, size in zip(networks, sizes, strict=True)]
    stages = nn.Sequential()
    stages.add_module("networks", SideBySide(trunks))
    width = sum(sum(trunk.part_widths()) for trunk in trunks)
    colours = len(networks[0].mean)
    return Backbone(" + ".join(n.name for n in networks), stages, (0.0,) * colours, (1.0,) * colours, width)


def _frozen(network: Backbone, size: int | None, spec: EmbedderSpec | ClassifierSpec) -> Trunk:
    own = size if size != spec.image_size else None
    pooled = [stage for stage in spec.pooled if stage in network.stage_names]
    framed = network if own is None else replace(network, size=own, crop=None)
    return Trunk(framed, freeze_until=ALL, pooled=pooled)
