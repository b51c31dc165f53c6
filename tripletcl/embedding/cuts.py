"""Splits of networks of torchvision and timm into named stages, which can be frozen, shared or forked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

Stages = tuple[dict[str, nn.Module], int]
"""Named stages and the width of the last one's features."""


def one_stage(network: Any, classifier: Sequence[str]) -> Stages:
    """Keep a network whole and remove its classifier."""
    if hasattr(network, "head_hidden_size"):  # timm's, built without a classifier
        return {"backbone": network}, network.head_hidden_size
    if hasattr(network, "aux_logits"):  # Inception's second classifier answers in train mode only
        network.aux_logits = False
        network.AuxLogits = network.aux1 = network.aux2 = None
    width = network.get_submodule(classifier[0]).in_features
    network.set_submodule(classifier[0], nn.Identity())
    return {"backbone": network}, width


def _cut_squeezenet(network: Any) -> Stages:
    pool = nn.AdaptiveAvgPool2d(1)
    width = network.classifier[1].in_channels
    return {"backbone": nn.Sequential(network.features, pool, nn.Flatten())}, width


def _cut_vgg(network: Any) -> Stages:
    """Split into conv1 ... conv5, each up to and including its pooling, then fc6 and fc7."""
    ends = [i + 1 for i, layer in enumerate(network.features) if isinstance(layer, nn.MaxPool2d)]
    return _convolutions_and_linears(network, [0, *ends])


def _cut_alexnet(network: Any) -> Stages:
    """Split into conv1 ... conv5, each up to the next convolution, then fc6 and fc7."""
    starts = [i for i, layer in enumerate(network.features) if isinstance(layer, nn.Conv2d)]
    return _convolutions_and_linears(network, [*starts, len(network.features)])


def _convolutions_and_linears(network: Any, bounds: list[int]) -> Stages:
    stages: dict[str, nn.Module] = {
        f"conv{i}": network.features[start:end] for i, (start, end) in enumerate(pairwise(bounds), 1)
    }
    stages["fc6"] = nn.Sequential(network.avgpool, nn.Flatten(), *network.classifier[:3])
    stages["fc7"] = network.classifier[3:6]
    return stages, network.classifier[-1].in_features


def _cut_resnet(network: Any) -> Stages:
    """Split into stem, layer1 ... layer4; the last one pools."""
    activation = {"relu": network.relu} if hasattr(network, "relu") else {"act1": network.act1}
    pool = {"avgpool": network.avgpool} if hasattr(network, "avgpool") else {"global_pool": network.global_pool}
    stem = {"conv1": network.conv1, "bn1": network.bn1, **activation, "maxpool": network.maxpool}
    stages: dict[str, nn.Module] = {"stem": named(stem)}
    stages |= {name: getattr(network, name) for name in ("layer1", "layer2", "layer3")}
    stages["layer4"] = named({"layer4": network.layer4, **pool, "flatten": nn.Flatten()})
    width = network.fc.in_features if "avgpool" in pool else network.num_features
    return stages, width


def _cut_efficientnet(network: Any) -> Stages:
    """Split into stem, blocks0 ... blocks6, head (the last 1 x 1 convolution and the pooling)."""
    stages: dict[str, nn.Module] = {"stem": named({"conv_stem": network.conv_stem, "bn1": network.bn1})}
    stages |= {f"blocks{i}": blocks for i, blocks in enumerate(network.blocks)}
    head = {"conv_head": network.conv_head, "bn2": network.bn2, "global_pool": network.global_pool}
    return stages | {"head": named(head)}, network.head_hidden_size


def _cut_vit(network: Any) -> Stages:
    """Split into stem (patches and positions), block1, block2, ..., and head (the last norm and the pooling)."""
    stages = numbered("block", network.blocks)
    pool: nn.Module = TokenPool(network.global_pool, network.num_prefix_tokens, network.pool_include_prefix)
    if network.attn_pool is not None:
        pool = nn.Sequential(Tokens(0 if network.pool_include_prefix else network.num_prefix_tokens), network.attn_pool)
    head = {"norm": network.norm, "pool": pool, "fc_norm": network.fc_norm}
    for name in ("blocks", "norm", "fc_norm"):
        setattr(network, name, nn.Identity())
    network.attn_pool = None
    return {"stem": Embedding(network), **stages, "head": named(head)}, network.head_hidden_size


def _cut_convnext(network: Any) -> Stages:
    """Split into stem, stage1 ... stage4, and head (the pooling and the last norm)."""
    head = named({"norm_pre": network.norm_pre, "head": network.head})
    return {"stem": network.stem, **numbered("stage", network.stages), "head": head}, network.head_hidden_size


def _cut_swin(network: Any) -> Stages:
    """Split into stem, stage1 ... stage4, and head; feature maps between them are `[B, C, H, W]`."""
    stages = {
        name: named({"in": Permute(0, 2, 3, 1), "layer": layer, "out": Permute(0, 3, 1, 2)})
        for name, layer in numbered("stage", network.layers).items()
    }
    stem = named({"patch_embed": network.patch_embed, "out": Permute(0, 3, 1, 2)})
    head = named({"in": Permute(0, 2, 3, 1), "norm": network.norm, "head": network.head})
    return {"stem": stem, **stages, "head": head}, network.head_hidden_size


def numbered(kind: str, modules: Iterable[nn.Module]) -> dict[str, nn.Module]:
    """Name modules by their kind and number, from 1."""
    return {f"{kind}{number}": module for number, module in enumerate(modules, 1)}


class Embedding(nn.Module):
    """The part of one of timm's vision transformers below its blocks, which have been replaced by the identity."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.forward_features(images)


class TokenPool(nn.Module):
    """The pooling of timm's vision transformers: tokens `[B, N, C]` to `[B, C]`."""

    def __init__(self, kind: str, prefix: int, with_prefix: bool) -> None:
        super().__init__()
        self.kind, self.prefix, self.with_prefix = kind, prefix, with_prefix

    def forward(self, tokens: Tensor) -> Tensor:
        from timm.layers import global_pool_nlc

        return global_pool_nlc(tokens, self.kind, self.prefix, self.with_prefix)


class Tokens(nn.Module):
    """The tokens after the first few."""

    def __init__(self, start: int) -> None:
        super().__init__()
        self.start = start

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, self.start :]


class Permute(nn.Module):
    """Another order of dimensions, without a copy."""

    def __init__(self, *dimensions: int) -> None:
        super().__init__()
        self.dimensions = dimensions

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.dimensions)


def named(modules: dict[str, nn.Module]) -> nn.Sequential:
    """Chain modules under these names."""
    return nn.Sequential(OrderedDict(modules))


CUTS: dict[str, Callable[[Any], Stages]] = {
    "torchvision.models.alexnet.AlexNet": _cut_alexnet,
    "torchvision.models.vgg.VGG": _cut_vgg,
    "torchvision.models.resnet.ResNet": _cut_resnet,
    "torchvision.models.squeezenet.SqueezeNet": _cut_squeezenet,
    "timm.models.resnet.ResNet": _cut_resnet,
    "timm.models.efficientnet.EfficientNet": _cut_efficientnet,
    "timm.models.vision_transformer.VisionTransformer": _cut_vit,
    "timm.models.convnext.ConvNeXt": _cut_convnext,
    "timm.models.swin_transformer.SwinTransformer": _cut_swin,
}
"""Splits of a family by the exact type of its networks, since a subclass may compute something else."""

CUT_LATER = (
    "timm.models.vision_transformer.VisionTransformer",
    "timm.models.convnext.ConvNeXt",
    "timm.models.swin_transformer.SwinTransformer",
)
"""Families that were one stage named `backbone` at first."""
