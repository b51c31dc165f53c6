"""Exact importance, as multiples of a plain forward and backward pass over the same batch.

    python benchmarks/importance.py --clock cpu --threads 1
    python benchmarks/importance.py --model resnet18 --batch 32 --size 128 --repeats 5

Columns, all for s = the squared norm of the outputs, f = abs, in float32, freed memory kept by the process:
- hooks: every sample exactly, in one pass a batch, batch after batch as `importance` takes them in a run;
- single: `per_sample_statistic`, the same for one batch: with new memory for the result, and a forward pass of one
  sample first, to find the batch axis;
- loop: the same by autograd, one sample after the other; measured on a few samples and scaled to the batch;
- vmap: `torch.func.vmap(grad)`, which holds every sample's gradient at once; measured on as many samples as fit into
  `--vmap-memory` and scaled to the batch;
- memory: the peak of hooks above the model and the images, as a multiple of the plain pass's, each in a process of its
  own; on the CPU that of resident memory;
- difference: the largest |hooks - loop| of a parameter divided by its largest entry.

The runs are interleaved, after one round that is not counted; medians of the ratios are printed. By default each model
has a batch with which a pass takes a second or two at 224 pixels. On a machine that does other work, too, use
`--clock cpu --threads 1`. `--json` prints one object a row: name, device, ratio.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import interleaved
import timm
import torch
import torchvision
from interleaved import Row
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from tripletcl.cpu import keep_freed_memory
from tripletcl.mas.float32 import exact_float32
from tripletcl.mas.statistics import Statistics, per_sample_statistic, squared_norm

MODELS = {"vgg16": (8, 224), "alexnet": (64, 224), "resnet18": (32, 224), "tf_efficientnet_lite0": (32, 224)}
"""Images a batch and pixels a side, on a CPU."""

GPU_MODELS = {"vgg16": (64, 224), "alexnet": (256, 224), "resnet18": (128, 224), "tf_efficientnet_lite0": (128, 224)}

MEMORY_GOAL = 1.3


def main() -> None:
    options = parse()
    if options.peak:
        print(peak_bytes(options.peak, options))
        return
    if options.json:
        print(interleaved.as_json(selected_rows(options)))
        return
    print(f"{interleaved.heading(options)}, float32, medians of {options.repeats}\n")
    head = "".join(f"{name:>9}" for name in ("hooks", "single", "loop", "vmap", "memory"))
    print(f"{'model':24}{'batch':>7}{'px':>5}{'fwd+bwd s':>11}{head}  difference")
    for name in options.model or MODELS:
        row = measure(name, options)
        ratios = "".join(f"{row[key]:8.2f}x" for key in ("hooks", "single", "loop", "vmap", "memory"))
        print(f"{name:24}{row['batch']:7}{row['size']:5}{row['plain_seconds']:11.2f}{ratios}  {row['difference']:.1e}")


def rows(
    device: str = "cpu",
    clock: str = "wall",
    models: Sequence[str] = tuple(MODELS),
    batch: int | None = None,
    size: int | None = None,
    repeats: int = 5,
) -> list[Row]:
    """Four ratios a model: name, device, ratio, and for all but the first their own goal and direction."""
    options = parse(["--device", device, "--clock", clock, "--repeats", str(repeats)])
    options.model, options.batch, options.size = models, batch, size
    return selected_rows(options)


def selected_rows(options: argparse.Namespace) -> list[Row]:
    return [row for name in options.model or MODELS for row in as_rows(name, measure(name, options), options)]


def as_rows(name: str, row: Row, options: argparse.Namespace) -> list[Row]:
    """Its cost, and that of the slow ways relative to it."""
    case = f"{name}, batch {row['batch']}, {row['size']} px"
    common = {"device": interleaved.device_name(options.device)}
    slow = {**common, "goal": None, "direction": "at least"}
    return [
        {"name": f"exact importance, {case}", **common, "ratio": row["hooks"]},
        {"name": f"its peak memory, {case}", **common, "ratio": row["memory"], "goal": MEMORY_GOAL},
        {"name": f"one sample after the other / exact importance, {case}", **slow, "ratio": row["loop"] / row["hooks"]},
        {"name": f"vmap(grad) / exact importance, {case}", **slow, "ratio": row["vmap"] / row["hooks"]},
    ]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = interleaved.parser(__doc__, repeats=5)
    parser.add_argument("--model", action="append", help=f"of torchvision or timm; repeatable; default {[*MODELS]}")
    parser.add_argument("--batch", type=int, help="default: the model's own, 16 for one that is not listed")
    parser.add_argument("--size", type=int, help="pixels a side; default: the model's own, else 128")
    parser.add_argument("--loop-samples", type=int, default=4)
    parser.add_argument("--vmap-memory", type=int, default=1024, help="MiB of per-sample gradients at a time")
    parser.add_argument("--peak", choices=("plain", "hooks"), help="print the peak memory of one of the two, in bytes")
    return interleaved.parse(parser, arguments)


def measure(name: str, options: argparse.Namespace) -> Row:
    """One model's ratios."""
    model, images = case(name, options)
    few = images[: options.loop_samples]
    gradient = sum(p.numel() * p.element_size() for p in model.parameters())
    some = images[: max(1, options.vmap_memory * 2**20 // gradient)]
    batches = Statistics(model)
    runs: dict[str, Callable[[], object]] = {
        "plain": lambda: forward_and_backward(model, images),
        "hooks": lambda: batches.add(images),
        "single": lambda: per_sample_statistic(model, images),
        "loop": lambda: per_sample_statistic(model, few, engine="loop"),
        "vmap": lambda: by_vmap(model, some),
    }
    keep_freed_memory()  # otherwise a run is slower for the memory that the one before it returned
    seconds = interleaved.time_interleaved(runs, options.clock, options.repeats, options.device)
    parts = {"loop": len(few), "vmap": len(some)}
    row: Row = {"batch": len(images), "size": images.shape[-1]}
    row["plain_seconds"] = statistics.median(seconds["plain"])
    for key in runs.keys() - {"plain"}:
        row[key] = interleaved.ratio(seconds[key], seconds["plain"]) * len(images) / parts.get(key, len(images))
    row["difference"] = difference(model, few)
    peak = {side: peak_in_a_process(side, name, options) for side in ("plain", "hooks")}
    return row | {"memory": peak["hooks"] / peak["plain"]}


def case(name: str, options: argparse.Namespace) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    batch, size = (MODELS if options.device == "cpu" else GPU_MODELS).get(name, (16, 128))
    size = options.size or size
    model = build(name).eval().to(options.device)
    return model, torch.randn(options.batch or batch, 3, size, size, device=options.device)


def build(name: str) -> nn.Module:
    """A backbone with its classifier, with random weights: the time does not depend on them."""
    if name in torchvision.models.list_models():
        return torchvision.models.get_model(name)
    return timm.create_model(name)


def forward_and_backward(model: nn.Module, images: Tensor) -> None:
    model.zero_grad()
    with exact_float32():
        squared_norm(model(images)).sum().backward()


def by_vmap(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def scalar(parameters: dict[str, Tensor], image: Tensor) -> Tensor:
        return squared_norm(functional_call(model, parameters, (image[None],))).sum()

    gradients = vmap(grad(scalar), in_dims=(None, 0))(parameters, images)
    return {name: value.abs_().sum(0) for name, value in gradients.items()}


def difference(model: nn.Module, images: Tensor) -> float:
    ours, loop = per_sample_statistic(model, images), per_sample_statistic(model, images, engine="loop")
    return max(float((ours[key] - loop[key]).abs().max() / loop[key].max()) for key in loop)


def peak_in_a_process(side: str, name: str, options: argparse.Namespace) -> int:
    command = [sys.executable, __file__, "--peak", side, "--model", name, "--device", options.device]
    for flag, value in (("--batch", options.batch), ("--size", options.size), ("--threads", torch.get_num_threads())):
        command += [flag, str(value)] if value else []
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def peak_bytes(side: str, options: argparse.Namespace) -> int:
    """Peak memory of two batches, in bytes above what was in use before."""
    model, images = case(options.model[0], options)
    batches = Statistics(model)
    plain = partial(forward_and_backward, model, images)
    run = plain if side == "plain" else partial(batches.add, images)
    if options.device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark of Linux
        before = resident("VmRSS")
        run(), run()
        return resident("VmHWM") - before
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run(), run()
    return torch.cuda.max_memory_allocated() - before


def resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(field)))


if __name__ == "__main__":
    main()
