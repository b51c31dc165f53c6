"""The image branch: shapes, frozen and shared parts."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from tripletcl.embedding import Backbone, ImageBranch, build_backbone
from tripletcl.errors import UserError

WIDTH = 5


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    """Four stages, batch normalisation and dropout among them."""
    stages = nn.Sequential()
    stages.add_module("one", nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU()))
    stages.add_module("two", nn.Sequential(nn.Conv2d(4, 6, 3, 2), nn.BatchNorm2d(6), nn.ReLU()))
    stages.add_module("three", nn.Sequential(nn.Conv2d(6, 7, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    stages.add_module("four", nn.Sequential(nn.Linear(7, 8), nn.ReLU(), nn.Dropout(0.5)))
    return Backbone("toy/net", stages, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), 8)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def numbers(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_model_1_is_one_trunk_and_three_heads(backbone: Backbone, images: Tensor) -> None:
    branch = ImageBranch(backbone, WIDTH).eval()
    assert branch(images).shape == (6, 3, WIDTH)
    assert [(head.in_features, head.out_features) for head in branch.heads] == [(8, WIDTH)] * 3
    assert len(branch.branches) == 1
    features = backbone.stages.eval()((images - torch.tensor(backbone.mean).view(3, 1, 1)) / branch.std)
    expected = torch.stack([head(features) for head in branch.heads], dim=1)
    assert torch.allclose(branch(images), expected, atol=1e-6)


def test_model_2_forks_into_two_untied_copies(backbone: Backbone, images: Tensor) -> None:
    branch = ImageBranch(backbone, WIDTH, fork_at="two").eval()
    assert [(head.in_features, head.out_features) for head in branch.heads] == [(8, WIDTH), (8, 2 * WIDTH)]
    subject, other = branch.branches
    for a, b in zip(subject.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.untyped_storage().data_ptr() != b.untyped_storage().data_ptr()
    before = branch(images)
    with torch.no_grad():
        for parameter in subject.parameters():
            parameter.add_(0.1)
    after = branch(images)
    assert torch.equal(before[:, 1:], after[:, 1:])
    assert not torch.allclose(before[:, 0], after[:, 0])


def test_units_of_model_2_move_only_their_own_branch(backbone: Backbone, images: Tensor) -> None:
    branch = ImageBranch(backbone, WIDTH, fork_at="two")
    branch(images)[:, 0].square().sum().backward()
    assert all(p.grad.any() for p in [*branch.shared.parameters(), *branch.branches[0].parameters()])
    assert not any(p.grad.any() for p in [*branch.branches[1].parameters(), *branch.heads[1].parameters()])


def test_frozen_stages_get_no_gradient_and_never_change(backbone: Backbone, images: Tensor) -> None:
    branch = ImageBranch(backbone, WIDTH, freeze_until="two").train()
    before = copy.deepcopy(branch.frozen.state_dict())
    assert not branch.features(images).requires_grad
    optimizer = torch.optim.SGD(branch.parameters(), lr=0.1, weight_decay=0.1)
    branch(images).square().sum().backward()
    optimizer.step()
    assert all(p.grad is None and not p.requires_grad for p in branch.frozen.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in branch.frozen.state_dict().items())
    assert all(p.requires_grad for module in (branch.shared, branch.heads) for p in module.parameters())


@pytest.mark.parametrize("freeze_until", [None, "one", "two", "four"])
def test_features_and_the_rest_make_the_whole(backbone: Backbone, images: Tensor, freeze_until: str | None) -> None:
    branch = ImageBranch(backbone, WIDTH, freeze_until=freeze_until).eval()
    assert torch.equal(branch(images), branch.readout(branch.represent(branch.features(images))))
    plain = ImageBranch(backbone, WIDTH).eval()
    plain.heads.load_state_dict(branch.heads.state_dict())
    assert torch.allclose(branch(images), plain(images), atol=1e-6)


def test_running_statistics_never_move(backbone: Backbone, images: Tensor) -> None:
    branch = ImageBranch(backbone, WIDTH).train()
    before = {name: buffer.clone() for name, buffer in branch.named_buffers()}
    branch(images)
    assert all(torch.equal(before[name], buffer) for name, buffer in branch.named_buffers())
    assert any("running_mean" in name for name in before)
    norms = [module for module in branch.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)


def test_dropout_follows_the_mode(backbone: Backbone, images: Tensor) -> None:
    branch = ImageBranch(backbone, WIDTH)
    dropout = next(module for module in branch.modules() if isinstance(module, nn.Dropout))
    assert dropout.training
    assert not torch.equal(branch(images), branch(images))
    branch.eval()
    assert torch.equal(branch(images), branch(images))
    frozen = ImageBranch(backbone, WIDTH, freeze_until="four").train()
    assert torch.equal(frozen(images), frozen(images))


def test_the_backbone_is_copied(backbone: Backbone) -> None:
    first, second = ImageBranch(backbone, WIDTH), ImageBranch(backbone, WIDTH)
    owners = [{p.data_ptr() for p in module.parameters()} for module in (backbone.stages, first, second)]
    assert not owners[0] & owners[1]
    assert not owners[1] & owners[2]


def test_heads_start_as_configured(backbone: Backbone) -> None:
    branch = ImageBranch(backbone, 400, hidden=50, head_std=0.005)
    for head in branch.heads:
        assert [type(layer) for layer in head] == [nn.Linear, nn.ReLU, nn.Linear]
        assert head[0].out_features == 50
        assert head[-1].weight.std().item() == pytest.approx(0.005, rel=0.05)
        assert not head[-1].bias.any()


def test_the_papers_network_can_be_configured() -> None:
    with torch.device("meta"):
        branch = ImageBranch(
            build_backbone("vgg16", "none"), 300, freeze_until="conv2", fork_at="conv3", head_std=0.005
        )
        outputs = branch(torch.empty(2, 3, 224, 224))
    assert outputs.shape == (2, 3, 300)
    convolutions = [[m.out_channels for m in part.modules() if isinstance(m, nn.Conv2d)] for part in branch.children()]
    assert convolutions[:3] == [[64, 64, 128, 128], [256] * 3, [512] * 12]
    assert [(head.in_features, head.out_features) for head in branch.heads] == [(4096, 300), (4096, 600)]


def test_wrong_stages_are_refused_with_the_allowed_ones(backbone: Backbone) -> None:
    with pytest.raises(UserError, match=r"freeze_until 'five'.*one, two, three, four"):
        ImageBranch(backbone, WIDTH, freeze_until="five")
    with pytest.raises(UserError, match=r"fork_at 'four'.*one, two, three, or None"):
        ImageBranch(backbone, WIDTH, fork_at="four")
    with pytest.raises(UserError, match=r"fork_at 'one' comes before freeze_until 'two'"):
        ImageBranch(backbone, WIDTH, fork_at="one", freeze_until="two")
    whole = Backbone("toy/one", nn.Sequential(), backbone.mean, backbone.std, 8)
    whole.stages.add_module("backbone", backbone.stages)
    assert numbers(ImageBranch(whole, WIDTH, freeze_until="backbone").shared) == 0
    with pytest.raises(UserError, match=r"fork_at 'backbone' is not possible for toy/one.*one stage"):
        ImageBranch(whole, WIDTH, fork_at="backbone")
    with pytest.raises(UserError, match=r"freeze_until 'layer1'.*allowed is one of backbone"):
        ImageBranch(whole, WIDTH, freeze_until="layer1")
