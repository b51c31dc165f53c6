"""Image networks by name, as named stages that can be frozen, shared or forked."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path

from torch import Tensor, nn

from tripletcl.embedding.cuts import CUT_LATER, CUTS, named, one_stage
from tripletcl.embedding.hf import HF, build_stages
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
        crop: Side of the central square that is then cut out; None takes all.
        former_names: Of the network's tensors in models that were saved when it was one stage named `backbone`, the
            names within the stages.
    """

    name: str
    stages: nn.Sequential
    mean: tuple[float, ...]
    std: tuple[float, ...]
    width: int
    size: int | None = None
    crop: int | None = None
    former_names: Mapping[str, str] = field(default_factory=dict)

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Names of the stages in order, for freeze_until and fork_at."""
        return tuple(name for name, _ in self.stages.named_children())


def build_backbone(name: str, weights: str = "bundled") -> Backbone:
    """Build a classification network of torchvision, timm or transformers, without its classifier.

    VGG, AlexNet, ResNet, EfficientNet, ViT, Swin and ConvNeXt come as several stages; most other networks are one stage
    named `backbone`. Activations are not in place, so that a hook sees the output of every layer.

    Args:
        name: `torchvision/<model>`, `timm/<model>`, or a bare model name, looked up first among the networks with
            installed weights, then in torchvision, then in timm; `hf/<folder or name>`, a checkpoint of transformers;
            or `mlp/<pixels>-<width>-<width>...`, a perceptron for grey images.
        weights: "bundled" (installed with tripletcl, or the checkpoint's own), "none" (random, from torch's global
            generator), "download" (the library's own default weights), or a `.safetensors` or torch file in the
            network's own layout; its classifier is ignored.

    Raises:
        UserError: unknown name, no such weights, or weights that do not fit.
    """
    if name.startswith(PERCEPTRON):
        return _build_perceptron(name, weights)
    check_torch_pair()
    if name.startswith(HF):
        return _build_checkpoint(name, weights)
    library, model = resolve_name(name)
    full_name = f"{library}/{model}"
    if weights == "bundled" and full_name not in BUNDLED:
        raise UserError(
            f"no weights of {full_name} are installed with tripletcl, only those of {', '.join(BUNDLED)}: "
            "set its weights to 'none', 'download' or a weights file"
        )
    build = _build_torchvision if library == "torchvision" else _build_timm
    try:
        network, classifier, mean, std = build(model, pretrained=weights == "download")
    except OSError as error:
        raise UserError(f"the weights of {full_name} cannot be downloaded: {' '.join(str(error).split())}") from error
    if weights == "bundled":
        _load(network, BUNDLED[full_name](), classifier, full_name)
    elif weights not in ("none", "download"):
        _load(network, read_weights(Path(weights)), classifier, weights)
    for module in network.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    config = getattr(network, "pretrained_cfg", {})
    size = config["input_size"][-1] if config.get("fixed_input_size") else None
    own_names = {id(tensor): name for name, tensor in network.state_dict(keep_vars=True).items()}
    kind = f"{type(network).__module__}.{type(network).__qualname__}"
    parts, width = CUTS[kind](network) if kind in CUTS else one_stage(network, classifier)
    stages = named(parts)
    cut_names = stages.state_dict(keep_vars=True) if kind in CUT_LATER else {}
    former = {own_names[id(tensor)]: name for name, tensor in cut_names.items()}
    return Backbone(full_name, stages, tuple(mean), tuple(std), width, size, former_names=former)


def _build_checkpoint(name: str, weights: str) -> Backbone:
    (stages, width), own = build_stages(name.removeprefix(HF), weights)
    return Backbone(name, named(stages), own.mean, own.std, width, own.size, own.crop)


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
    return Backbone(name, named(stages), (MNIST_MEAN,), (MNIST_STD,), int(widths[-1]))


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
