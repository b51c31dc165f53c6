"""What exact importance costs, as multiples of a plain forward and backward pass over the same batch.

    python benchmarks/importance.py --model tf_efficientnet_lite0 --batch 64 --size 128 --repeats 5

Columns, all for s = the squared norm of the outputs, f = abs, in float32:
- hooks: `per_sample_statistic`, every sample exactly, in one pass;
- loop: the same by autograd, one sample after the other; measured on a few samples and scaled to the batch;
- vmap: `torch.func.vmap(grad)`, which holds every sample's gradient at once; measured on as many samples as fit into
  `--vmap-memory` and scaled to the batch;
- difference: the largest |hooks - loop| of a parameter divided by its largest entry.

Methods take turns within every repeat, after one round that is not counted; medians are printed. On a machine that is
busy with other work use `--clock cpu --threads 1`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from tripletcl.mas.statistics import per_sample_statistic, squared_norm

MODELS = ["tf_efficientnet_lite0", "alexnet", "vgg16", "resnet18"]
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    rows = [measure(name, options) for name in options.model or MODELS]
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    header = f"batch {options.batch}, {options.size} px, {options.clock} clock, {torch.get_num_threads()} threads"
    print(f"{header}, medians of {options.repeats}\n")
    print(f"{'model':24}{'fwd+bwd s':>10}{'hooks':>9}{'loop':>9}{'vmap':>9}  difference")
    for row in rows:
        ratios = "".join(f"{row[name]:8.2f}x" for name in ("hooks", "loop", "vmap"))
        print(f"{row['model']:24}{row['plain_seconds']:10.2f}{ratios}  {row['difference']:.1e}")
    print(f"\nloop is scaled from {min(options.loop_samples, options.batch)} samples, vmap from", end=" ")
    print(", ".join(f"{row['vmap_samples']} ({row['model']})" for row in rows))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help=f"a name of torchvision or timm; repeatable; default {MODELS}")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=128, help="pixels a side")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--loop-samples", type=int, default=4)
    parser.add_argument("--vmap-memory", type=int, default=1024, help="MiB of per-sample gradients at a time")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--threads", type=int, help="default: as many as torch takes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def measure(name: str, options: argparse.Namespace) -> dict[str, float | int | str]:
    torch.manual_seed(0)
    model = build(name).eval().to(options.device)
    images = torch.randn(options.batch, 3, options.size, options.size, device=options.device)
    few = images[: options.loop_samples]
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    some = images[: max(1, options.vmap_memory * 2**20 // size)]
    runs: dict[str, Callable[[], object]] = {
        "plain": lambda: forward_and_backward(model, images),
        "hooks": lambda: per_sample_statistic(model, images),
        "loop": lambda: per_sample_statistic(model, few, engine="loop"),
        "vmap": lambda: by_vmap(model, some),
    }
    seconds = interleaved(runs, options)
    ours, loop = per_sample_statistic(model, few), per_sample_statistic(model, few, engine="loop")
    return {
        "model": name,
        "plain_seconds": seconds["plain"],
        "hooks": seconds["hooks"] / seconds["plain"],
        "loop": seconds["loop"] / seconds["plain"] * len(images) / len(few),
        "vmap": seconds["vmap"] / seconds["plain"] * len(images) / len(some),
        "vmap_samples": len(some),
        "difference": max(float((ours[key] - loop[key]).abs().max() / loop[key].max()) for key in loop),
    }


def build(name: str) -> nn.Module:
    """A backbone with its classifier, randomly initialised: the time does not depend on the weights."""
    if name in torchvision.models.list_models():
        return torchvision.models.get_model(name)
    return timm.create_model(name)


def forward_and_backward(model: nn.Module, images: Tensor) -> None:
    model.zero_grad()
    squared_norm(model(images)).sum().backward()


def by_vmap(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def scalar(parameters: dict[str, Tensor], image: Tensor) -> Tensor:
        return squared_norm(functional_call(model, parameters, (image[None],))).sum()

    gradients = vmap(grad(scalar), in_dims=(None, 0))(parameters, images)
    return {name: value.abs_().sum(0) for name, value in gradients.items()}


def interleaved(runs: dict[str, Callable[[], object]], options: argparse.Namespace) -> dict[str, float]:
    clock = CLOCKS[options.clock]
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(options.repeats + 1):
        for name, run in runs.items():
            start = clock()
            run()
            if options.device != "cpu":
                torch.accelerator.synchronize()
            if repeat:
                seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
    main()
