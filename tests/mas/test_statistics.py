"""Whole models against autograd on one sample at a time, and the state after a pass."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import timm
import timm.layers
import torch
import torch.nn.functional as F
import torchvision
from reference_gradients import summed_statistic
from test_rules import assert_equal, images, perturb
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from tripletcl.errors import UserError
from tripletcl.mas.owners import find_owners
from tripletcl.mas.statistics import Statistics, batch_statistic, every_output, per_sample_statistic, squared_norm


class Block(nn.Module):
    """A residual with activations that overwrite their input, as in ResNet."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(self.norm(self.first(x)))
        return F.relu_(self.second(x) + x)


class Branches(nn.Module):
    """A frozen stem, a block and three parallel outputs: [B, 3, 4]. One layer is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 3, 1)
        self.block = Block()
        self.drop = nn.Dropout(0.5)
        self.heads = nn.ModuleList(nn.Linear(3, 4) for _ in range(3))
        self.unused = nn.Linear(2, 2)

    def features(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.stem(x)

    def from_features(self, x: Tensor) -> Tensor:
        x = self.drop(self.block(x).mean((2, 3)))
        return torch.stack([head(x) for head in self.heads], dim=1)  # [B, 3, 4]

    def forward(self, x: Tensor) -> Tensor:
        return self.from_features(self.features(x))


@pytest.fixture
def branches() -> nn.Module:
    torch.manual_seed(0)
    model = perturb(Branches())
    model.stem.requires_grad_(False)
    return model


@pytest.mark.parametrize("engine", ["hooks", "loop"])
@pytest.mark.parametrize("f", [abs, torch.square])
def test_statistic_equals_the_twin(branches: nn.Module, engine: str, f: Callable[[Tensor], Tensor]) -> None:
    inputs = images(4, 3, 5, 5)
    ours = per_sample_statistic(branches, inputs, statistic=f, engine=engine)
    reference = summed_statistic(branches, inputs, f)
    for statistics in (ours, reference):
        assert statistics.pop("unused.weight").abs().max() == 0
        assert statistics.pop("unused.bias").abs().max() == 0
    assert_equal(ours, reference, 1e-12)


def test_batch_gradient_is_another_number(branches: nn.Module) -> None:
    """|gradient of the batch's sum| underestimates the sum of the samples' |gradients|."""
    inputs = images(8, 3, 5, 5)
    ours = per_sample_statistic(branches, inputs)
    branches.eval()
    squared_norm(branches(inputs)).sum().backward()
    of_the_batch = {name: p.grad.abs() for name, p in branches.named_parameters() if p.grad is not None}
    assert all((ours[name] >= value - 1e-9).all() for name, value in of_the_batch.items())
    assert (ours["block.first.weight"] > 1.1 * of_the_batch["block.first.weight"]).any()


@pytest.mark.parametrize("engine", ["hooks", "loop"])
@pytest.mark.parametrize("f", [abs, torch.square])
def test_several_scalars_are_added_up(branches: nn.Module, engine: str, f: Callable[[Tensor], Tensor]) -> None:
    """sum_d f(d F_d / d theta), one output after the other."""
    inputs = images(4, 3, 5, 5)
    ours = per_sample_statistic(branches, inputs, scalar=every_output, statistic=f, engine=engine)
    columns = [summed_statistic(branches, inputs, f, lambda out, d=d: out.flatten(1)[:, d]) for d in range(12)]
    reference = {name: sum(column[name] for column in columns) for name in columns[0]}
    for statistics in (ours, reference):
        assert statistics.pop("unused.weight").abs().max() == 0
        assert statistics.pop("unused.bias").abs().max() == 0
    assert_equal(ours, reference, 1e-12)


def test_several_scalars_share_the_forward_pass(branches: nn.Module) -> None:
    """Three calls of one or two samples, to check the modules, and one of the batch."""
    sizes = []
    branches.stem.register_forward_hook(lambda _, args, output: sizes.append(len(output)))
    per_sample_statistic(branches, images(4, 3, 5, 5), scalar=every_output)
    assert sizes == [1, 1, 2, 4]


@pytest.mark.parametrize("f", [abs, torch.square])
@pytest.mark.parametrize("batch", [1, 4])
def test_batch_statistic_is_that_of_the_mean(branches: nn.Module, batch: int, f: Callable[[Tensor], Tensor]) -> None:
    inputs = images(batch, 3, 5, 5)
    ours = batch_statistic(branches, inputs, statistic=f)
    branches.eval()
    squared_norm(branches(inputs)).mean().backward()
    for name, p in branches.named_parameters():
        expected = torch.zeros_like(p) if p.grad is None else f(p.grad)
        if p.requires_grad:
            torch.testing.assert_close(ours[name], expected, rtol=1e-12, atol=0)
    if batch == 1:
        exact = per_sample_statistic(branches, inputs, statistic=f)
        assert all(torch.allclose(ours[name], exact[name], rtol=1e-12) for name in exact)


def layer_inputs(model: nn.Module, layers: dict[str, nn.Module], inputs: Tensor) -> dict[str, Tensor]:
    entered: dict[str, Tensor] = {}
    handles = [
        layer.register_forward_pre_hook(lambda _, args, name=name: entered.update({name: args[0].detach().clone()}))
        for name, layer in layers.items()
    ]
    model(inputs)
    for handle in handles:
        handle.remove()
    return entered


def own_output_statistic(
    model: nn.Module, inputs: Tensor, f: Callable[[Tensor], Tensor], rectified: Sequence[str] = ()
) -> dict[str, Tensor]:
    """sum_n f(d ||y_l||^2 / d theta_l), every layer called again on a copy of its input, one sample after the other;
    for the layers in `rectified` y_l is the output of their ReLU."""
    model = copy.deepcopy(model).eval()
    layers = {n: m for n, m in model.named_modules() if any(p.requires_grad for p in m.parameters(recurse=False))}
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters() if p.requires_grad}
    for x in inputs:
        for name, entered in layer_inputs(model, layers, x[None]).items():
            model.zero_grad()
            y = layers[name](entered)
            ((torch.relu(y) if name in rectified else y) ** 2).sum().backward()
            for key, p in layers[name].named_parameters(recurse=False):
                if p.requires_grad:
                    total[f"{name}.{key}"] += f(p.grad)
    return total


@pytest.mark.parametrize("f", [abs, torch.square])
def test_local_scope_sees_every_layer_s_own_output(branches: nn.Module, f: Callable[[Tensor], Tensor]) -> None:
    inputs = images(4, 3, 5, 5)
    branches.train()
    state = State(branches)
    ours = per_sample_statistic(branches, inputs, statistic=f, scope="local")
    state.assert_kept(branches)
    reference = own_output_statistic(branches, inputs, f)
    for statistics in (ours, reference):
        assert statistics.pop("unused.weight").abs().max() == 0
        assert statistics.pop("unused.bias").abs().max() == 0
    assert_equal(ours, reference, 1e-12)


@pytest.mark.parametrize("name", ["efficientnet", "resnet18"])
def test_local_scope_of_a_backbone(name: str) -> None:
    model, inputs = backbone(name)
    for module in model.modules():
        if isinstance(module, timm.layers.BatchNormAct2d):  # its own output is that of the affine map
            module.act = nn.Identity()
    model.double()
    ours = per_sample_statistic(model, inputs[:2].double(), scope="local")
    assert_equal(ours, own_output_statistic(model, inputs[:2].double(), abs), 1e-10)


def test_local_scope_stops_before_the_activation_inside_a_layer() -> None:
    model = perturb(nn.Sequential(timm.layers.BatchNormAct2d(3)))
    inputs = images(3, 3, 4, 4)
    ours = per_sample_statistic(model, inputs, scope="local")
    model[0].act = nn.Identity()
    assert_equal(ours, own_output_statistic(model, inputs, abs), 1e-12)


class Rectified(nn.Module):
    """ReLUs after layers and elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.normed, self.norm = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.both = timm.layers.BatchNormAct2d(4, act_layer=nn.ReLU)  # an activation inside the layer
        self.elsewhere, self.smooth, self.summed, self.last = (nn.Linear(4, 4) for _ in range(4))
        self.relu, self.gelu = nn.ReLU(inplace=True), nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.plain(x))
        x = self.both(self.relu(self.norm(self.normed(x)))).mean((2, 3))
        x = 1 + F.relu(self.elsewhere(x))  # no module
        x = self.gelu(self.smooth(x))
        return self.last(1 + self.relu(x + self.summed(x)))


@pytest.mark.parametrize("f", [abs, torch.square])
def test_rectified_scope_takes_a_layer_with_the_relu_that_its_output_enters(f: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model, inputs = perturb(Rectified()), images(4, 3, 5, 5)
    model.train()
    state = State(model)
    ours = per_sample_statistic(model, inputs, statistic=f, scope="rectified")
    state.assert_kept(model)
    assert_equal(ours, own_output_statistic(model, inputs, f, ["plain", "norm"]), 1e-12)  # both has its own
    local = per_sample_statistic(model, inputs, statistic=f, scope="local")
    changed = {name.split(".")[0] for name, value in ours.items() if not torch.allclose(value, local[name])}
    assert changed == {"plain", "norm", "both"}


def test_local_scope_builds_no_graph(branches: nn.Module) -> None:
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor), lambda tensor: tensor):
        per_sample_statistic(branches, images(2, 3, 5, 5), scope="local")
        per_sample_statistic(branches, images(2, 3, 5, 5), scope="rectified")
    assert saved == []


def test_local_scope_refuses_settings_that_it_lacks(branches: nn.Module) -> None:
    inputs = images(2, 3, 5, 5)
    with pytest.raises(UserError, match="squared norm of every layer's own output"):
        per_sample_statistic(branches, inputs, scope="local", scalar=every_output)
    with pytest.raises(UserError, match='takes engine "hooks" only'):
        per_sample_statistic(branches, inputs, scope="local", engine="loop")
    with pytest.raises(UserError, match="no scope 'middle' of importance; the scopes are global, local, rectified"):
        per_sample_statistic(branches, inputs, scope="middle")
    with torch.no_grad(), pytest.raises(UserError, match="depend on no trainable parameter"):
        per_sample_statistic(branches, inputs, forward=torch.no_grad()(branches.forward), scope="local")


@pytest.mark.parametrize("engine", ["hooks", "loop"])
def test_forward_names_a_part_of_the_model(branches: nn.Module, engine: str) -> None:
    inputs = images(4, 3, 5, 5)
    whole = per_sample_statistic(branches, inputs, engine=engine)
    part = per_sample_statistic(branches, branches.features(inputs), forward=branches.from_features, engine=engine)
    assert all(torch.allclose(part[name], whole[name], rtol=1e-12) for name in whole)


def test_layers_outside_the_model_may_need_gradients() -> None:
    trunk, head = perturb(nn.Linear(4, 4)), perturb(nn.Linear(4, 3))
    inputs = images(5, 4)
    ours = per_sample_statistic(head, inputs, forward=lambda x: head(trunk(x).relu_()))
    assert_equal(ours, summed_statistic(head, trunk(inputs).relu().detach(), abs), 1e-12)
    assert trunk.weight.grad is None


@pytest.mark.parametrize("scope", ["local", "rectified"])
def test_a_head_outside_the_model_has_no_part_in_a_local_scope(scope: Any) -> None:
    trunk, head = perturb(nn.Sequential(nn.Linear(4, 4), nn.ReLU())), perturb(nn.Linear(4, 3))
    inputs = images(5, 4)
    ours = per_sample_statistic(trunk, inputs, forward=lambda x: head(trunk(x)), scope=scope)
    assert_equal(ours, own_output_statistic(trunk, inputs, abs, ["0"] if scope == "rectified" else []), 1e-12)
    assert head.weight.grad is None


BACKBONES = {
    "efficientnet": (lambda: timm.create_model("tf_efficientnet_lite0", num_classes=5), 48),
    "alexnet": (lambda: torchvision.models.alexnet(num_classes=5), 64),
    "vgg16": (lambda: torchvision.models.vgg16(num_classes=5).requires_grad_(True), 32),
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=5), 48),
}


def backbone(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    build, size = BACKBONES[name]
    model = build()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor, low, high in ((module.running_mean, -0.2, 0.2), (module.running_var, 0.5, 1.5)):
                nn.init.uniform_(tensor, low, high)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return model, torch.randn(3, 3, size, size)


def shrink_classifier(model: nn.Module) -> None:
    """VGG's and AlexNet's three wide linear layers, without their 100 million weights."""
    for name, layer in model.classifier.named_children():
        if isinstance(layer, nn.Linear):
            wide_in = layer.in_features if layer.in_features in (9216, 25088) else 16
            model.classifier.register_module(name, nn.Linear(wide_in, min(16, layer.out_features)))


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_equals_one_sample_at_a_time(name: str) -> None:
    model, inputs = backbone(name)
    if hasattr(model, "classifier") and isinstance(model.classifier, nn.Sequential):
        shrink_classifier(model)
    model.double()
    reference = summed_statistic(model, inputs.double(), abs)
    assert_equal(per_sample_statistic(model, inputs.double()), reference, 1e-10)
    assert_equal(per_sample_statistic(model.float(), inputs), reference, 1e-5)


def small_vit() -> nn.Module:
    torch.manual_seed(0)
    return timm.models.VisionTransformer(img_size=16, patch_size=8, embed_dim=12, depth=2, num_heads=2, num_classes=3)


def test_parameters_beside_layers_are_those_of_the_module_that_owns_them() -> None:
    model, inputs = small_vit().double(), images(3, 3, 16, 16)
    statistics = Statistics(model)
    statistics.add(inputs)
    reference = summed_statistic(model, inputs, abs)
    assert_equal(statistics.sums, reference, 1e-12)
    assert_equal(per_sample_statistic(model, inputs, engine="loop"), reference, 1e-12)
    assert without_rule(statistics) == {"": {"cls_token", "pos_embed"}}


def without_rule(statistics: Statistics) -> dict[str | None, set[str]]:
    """The modules that are differentiated themselves, and the parameters that they answer for."""
    assert statistics.hooks is not None
    (calls,) = statistics.hooks.calls.values()
    owners = find_owners(statistics.model, calls, statistics.hooks.excluded, statistics.hooks.unused)
    return {owner.path: set(owner.names.values()) for owner in owners if not owner.by_rule}


def test_vit_with_frozen_tokens() -> None:
    model, inputs = small_vit().double(), images(3, 3, 16, 16)
    model.cls_token.requires_grad_(False)
    model.pos_embed.requires_grad_(False)
    ours, reference = per_sample_statistic(model, inputs), summed_statistic(model, inputs, abs)
    assert "blocks.0.attn.qkv.weight" in ours
    assert_equal(ours, reference, 1e-12)


def test_in_place_change_of_a_view_of_an_output() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = timm.layers.LayerNorm2d(3)  # its output is a view
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.linear(F.relu_(self.norm(x)))
            x.flatten(1)[:, ::2].relu_()
            return x

    model, inputs = perturb(InPlace()), images(3, 3, 4, 4)
    assert_equal(per_sample_statistic(model, inputs), summed_statistic(model, inputs, abs), 1e-12)


def test_half_precision_is_summed_in_float32() -> None:
    model = nn.Linear(4, 3).bfloat16()
    for engine in ("hooks", "loop"):
        ours = per_sample_statistic(model, torch.randn(5, 4).bfloat16(), engine=engine)
        assert all(value.dtype == torch.float32 for value in ours.values())


def test_autocast_is_off() -> None:
    torch.manual_seed(0)
    model, inputs = nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True), nn.Linear(8, 3)), torch.randn(5, 8)
    plain = per_sample_statistic(model, inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = per_sample_statistic(model, inputs)
    assert all(torch.equal(ours[name], plain[name]) for name in plain)


@pytest.mark.parametrize("engine", ["hooks", "loop"])
@pytest.mark.parametrize("without_gradients", [torch.no_grad, torch.inference_mode])
def test_caller_without_gradients(branches: nn.Module, without_gradients: Callable[[], Any], engine: str) -> None:
    expected = per_sample_statistic(branches, images(2, 3, 5, 5))
    with without_gradients():
        inputs = images(2, 3, 5, 5)
        inside = per_sample_statistic(branches, inputs, engine=engine)
    outside = per_sample_statistic(branches, inputs, engine=engine)
    for name, value in expected.items():
        assert torch.allclose(inside[name], value, rtol=1e-12)
        assert torch.allclose(outside[name], value, rtol=1e-12)


# The state after a pass


class State:
    """Everything of a model that a pass could disturb."""

    def __init__(self, model: nn.Module) -> None:
        self.modes = [module.training for module in model.modules()]
        self.flags = [p.requires_grad for p in model.parameters()]
        self.grads = [p.grad for p in model.parameters()]
        self.hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
        self.values = {name: value.clone() for name, value in model.state_dict().items()}

    def assert_kept(self, model: nn.Module) -> None:
        now = State(model)
        assert (now.modes, now.flags, now.hooks) == (self.modes, self.flags, self.hooks)
        assert all(a is b for a, b in zip(now.grads, self.grads, strict=True))
        assert all(torch.equal(now.values[name], value) for name, value in self.values.items())


@pytest.mark.parametrize("engine", ["hooks", "loop"])
def test_nothing_is_changed(branches: nn.Module, engine: str) -> None:
    branches.train()
    branches.block.norm.eval()
    branches(images(2, 3, 5, 5)).sum().backward()
    state = State(branches)
    inputs = images(4, 3, 5, 5)
    in_train_mode = per_sample_statistic(branches, inputs, engine=engine)
    state.assert_kept(branches)
    branches.eval()
    in_eval_mode = per_sample_statistic(branches, inputs, engine=engine)
    assert all(torch.equal(in_train_mode[name], in_eval_mode[name]) for name in in_eval_mode)


@pytest.mark.parametrize("engine", ["hooks", "loop"])
@pytest.mark.parametrize("where", ["forward", "layer", "scalar", "backward"])
def test_nothing_is_changed_by_an_exception(branches: nn.Module, where: str, engine: str) -> None:
    branches.train()
    state = State(branches)

    def fail(*_: object) -> Tensor:
        raise ZeroDivisionError

    def forward(x: Tensor) -> Tensor:
        out = branches(x)
        if where == "forward":
            fail()
        if where == "backward" and out.requires_grad:
            out.register_hook(fail)
        return out

    inputs = images(4, 3, 5, 5) if where != "layer" else images(4, 2, 5, 5)  # a channel too few
    with pytest.raises(RuntimeError if where == "layer" else ZeroDivisionError):
        per_sample_statistic(
            branches, inputs, forward=forward, engine=engine, scalar=fail if where == "scalar" else squared_norm
        )
    state.assert_kept(branches)


def test_no_graph_below_the_first_trainable_layer() -> None:
    """Saved tensors are what a graph costs; frozen layers must not save any."""
    frozen = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid(), nn.Conv2d(4, 4, 3), nn.Sigmoid()).requires_grad_(False)
    model = nn.Sequential(frozen, nn.Flatten(), nn.Linear(16, 3)).double()
    shapes = []

    def record(saved: Tensor) -> Tensor:
        shapes.append(saved.ndim)
        return saved

    with torch.autograd.graph.saved_tensors_hooks(record, lambda saved: saved):
        per_sample_statistic(model, images(2, 3, 6, 6))
    assert 4 not in shapes  # of all images here only the frozen layers' are [B, C, H, W]
    assert not any(module._forward_pre_hooks for module in frozen)


def test_other_hooks_are_respected() -> None:
    """Hooks that change a layer's input or output are part of the function."""
    model = perturb(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3)))
    model[0].register_forward_pre_hook(lambda _, args: (args[0] * 2,))
    model[0].register_forward_hook(lambda _, args, output: output * 3)
    inputs = images(3, 4)
    assert_equal(per_sample_statistic(model, inputs), summed_statistic(model, inputs, abs), 1e-12)


# Modules without a rule


class Uses(nn.Module):
    """One layer in a hand-written forward."""

    def __init__(self, forward: Callable[[nn.Module, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.how = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.how(self, x)


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    return model


def mixing(model: nn.Module, x: Tensor) -> Tensor:
    return model.a(x.reshape(len(x), 2, 2).transpose(0, 1)).sum(0)


ODD: dict[str, tuple[Callable[[], nn.Module], dict[str | None, set[str]]]] = {
    "called twice": (lambda: Uses(lambda m, x: m.a(m.a(x)), a=nn.Linear(4, 4)), {"a": {"a.weight", "a.bias"}}),
    "shared parameter": (tied, {"0": {"0.weight", "0.bias"}, "1": {"0.weight", "1.bias"}}),
    "no rule": (lambda: nn.Sequential(nn.PReLU()), {"0": {"0.weight"}}),
    "subclass": (lambda: nn.Sequential(type("Mine", (nn.Linear,), {})(4, 4)), {"0": {"0.weight", "0.bias"}}),
    "parametrised": (
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4))),
        {"0": {f"0.parametrizations.weight.original{i}" for i in (0, 1)} | {"0.bias"}},
    ),
    "functional use": (
        lambda: Uses(lambda m, x: F.linear(x, m.a.weight) + m.b(x), a=nn.Linear(4, 4, bias=False), b=nn.Linear(4, 4)),
        {"": {"a.weight"}},
    ),
    "used inside and outside": (
        lambda: Uses(lambda m, x: m.a(x) @ m.a.weight, a=nn.Linear(4, 4)),
        {"": {"a.weight", "a.bias"}},
    ),
    "forward without hooks": (
        lambda: Uses(lambda m, x: m.a.forward(x), a=nn.Linear(4, 4)),
        {"": {"a.weight", "a.bias"}},
    ),
    "another axis": (lambda: Uses(mixing, a=nn.Linear(2, 2)), {"": {"a.weight", "a.bias"}}),
    "attention": (
        lambda: Uses(
            lambda m, x: m.a(*[x.reshape(len(x), 2, 2)] * 3)[0].flatten(1),
            a=nn.MultiheadAttention(2, 1, batch_first=True),
        ),
        {"a": {"a.in_proj_weight", "a.in_proj_bias", "a.out_proj.weight", "a.out_proj.bias"}},
    ),
    "attention with tokens first": (
        lambda: Uses(
            lambda m, x: m.a(*[x.reshape(len(x), 2, 2).transpose(0, 1)] * 3)[0].transpose(0, 1).flatten(1),
            a=nn.MultiheadAttention(2, 1),
        ),
        {"": {"a.in_proj_weight", "a.in_proj_bias", "a.out_proj.weight", "a.out_proj.bias"}},
    ),
    "windows": (
        lambda: Uses(lambda m, x: m.b(m.a(x.reshape(-1, 2))).reshape(-1, 4), a=nn.Linear(2, 2), b=nn.PReLU()),
        {"b": {"b.weight"}},
    ),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("case", ODD)
def test_modules_without_a_rule_are_differentiated_themselves(case: str, batch: int) -> None:
    build, expected = ODD[case]
    model, inputs = perturb(build()), images(batch, 4)
    state = State(model)
    statistics = Statistics(model)
    statistics.add(inputs)
    state.assert_kept(model)
    reference = summed_statistic(model, inputs, abs)
    for name, value in reference.items():
        torch.testing.assert_close(statistics.sums[name], value, rtol=1e-10, atol=1e-12)
    assert without_rule(statistics) == expected


@pytest.mark.parametrize("f", [abs, torch.square])
def test_several_scalars_of_a_module_that_is_called_twice(f: Callable[[Tensor], Tensor]) -> None:
    model, inputs = perturb(Uses(lambda m, x: m.a(m.a(x).tanh()), a=nn.Linear(4, 4))), images(3, 4)
    columns = [summed_statistic(model, inputs, f, lambda out, d=d: out[:, d]) for d in range(4)]
    expected = {name: sum(column[name] for column in columns) for name in columns[0]}
    assert_equal(per_sample_statistic(model, inputs, scalar=every_output, statistic=f), expected, 1e-12)


def test_a_module_that_vmap_cannot_take_is_differentiated_one_sample_at_a_time(caplog: Any) -> None:
    class Decides(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.scale = nn.Linear(4, 4), nn.Parameter(torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            rows = [row * self.scale if row.sum().item() > 0 else row + self.scale for row in self.a(x)]
            return torch.stack(rows)

    model, inputs = perturb(Decides()), images(5, 4)
    statistics = Statistics(model)
    statistics.add(inputs[:3])
    assert "gradients are taken one sample after the other, which is slow" in caplog.text
    caplog.clear()
    statistics.add(inputs[3:])
    assert not caplog.text, "said once, and vmap is not tried again"
    assert_equal(statistics.sums, summed_statistic(model, inputs, abs), 1e-12)


@pytest.mark.parametrize("case", ["called twice", "shared parameter", "no rule", "functional use", "another axis"])
def test_a_local_scope_takes_layers_with_a_rule_only(case: str) -> None:
    model = perturb(ODD[case][0]())
    state = State(model)
    with pytest.raises(UserError, match=r"(no layer with a rule|is used outside|batch on axis 0).*method\.engine=loop"):
        per_sample_statistic(model, images(3, 4), scope="local")
    state.assert_kept(model)


def test_batch_norm_without_running_statistics() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False, affine=False)).double()
    with pytest.raises(UserError, match=r"^1 has no running statistics"):
        per_sample_statistic(model, images(3, 3, 5, 5))


@pytest.mark.parametrize("engine", ["hooks", "loop"])
def test_other_mistakes(engine: str) -> None:
    model, inputs = nn.Linear(4, 3).double(), images(3, 4)

    @torch.no_grad()
    def without_gradient(x: Tensor) -> Tensor:
        return model(x)

    with pytest.raises(UserError, match="depend on no trainable parameter"):
        per_sample_statistic(model, inputs, forward=without_gradient, engine=engine)
    with pytest.raises(UserError, match=r"one number a sample, shape \[\d\], or K .* not \[\]"):
        per_sample_statistic(model, inputs, scalar=torch.sum, engine=engine)
    with pytest.raises(UserError, match=r"abs or torch\.square"):
        per_sample_statistic(model, inputs, statistic=torch.exp, engine=engine)
    with pytest.raises(UserError, match="'vmap'; the engines are hooks, loop"):
        per_sample_statistic(model, inputs, engine="vmap")
    with pytest.raises(UserError, match="Linear has no trainable parameters"):
        per_sample_statistic(model.requires_grad_(False), inputs, engine=engine)
