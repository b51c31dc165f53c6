"""What exact importance costs, as multiples of a plain forward and backward pass over the same batch.

    python benchmarks/importance.py --clock cpu --threads 1
    python benchmarks/importance.py --model resnet18 --batch 32 --size 128 --repeats 5

Columns, all for s = the squared norm of the outputs, f = abs, in float32 unless `--precision` says otherwise, of the
plain pass as of hooks and alone; memory that is freed stays with the process, as while a run lasts:
- hooks: every sample exactly, in one pass a batch, batch after batch as `importance` takes them;
- alone: `per_sample_statistic`, the same for a single batch: with new memory for the result, and one sample passed
  forward first, to see where the batch axis is;
- loop: the same by autograd, one sample after the other; measured on a few samples and scaled to the batch;
- vmap: `torch.func.vmap(grad)`, which holds every sample's gradient at once; measured on as many samples as fit into
  `--vmap-memory` and scaled to the batch;
- memory: the peak of hooks above what the model and the images take, as a multiple of the plain pass's, each in a
  process of its own; on the CPU that of resident memory;
- difference: the largest |hooks - loop| of a parameter divided by its largest entry.

Methods take turns within every repeat, after one round that is not counted; medians are printed. Where nothing is asked
for, each model has a batch and a size with which a pass takes about a second on one core. On a machine that is busy
with other work use `--clock cpu --threads 1`. `--json` prints one object a row: name, device, ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from tripletcl.continual.device import freed_memory_kept
from tripletcl.mas.precision import Precision, forward_in, rounding
from tripletcl.mas.statistics import Statistics, per_sample_statistic, squared_norm

MODELS = {"tf_efficientnet_lite0": (64, 128), "alexnet": (64, 128), "vgg16": (16, 64), "resnet18": (32, 128)}
"""Images a batch and pixels a side."""

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
MEMORY_GOAL = 1.3


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    if options.peak:
        print(peak_bytes(options.peak, options))
        return
    if options.json:
        found = rows(
            options.device, options.clock, options.model or MODELS, options.batch, options.size, options.repeats
        )
        print("\n".join(map(json.dumps, found)))
        return
    print(f"{options.device}, {options.clock} clock, {torch.get_num_threads()} threads, medians of {options.repeats}\n")
    head = "".join(f"{name:>9}" for name in ("hooks", "alone", "loop", "vmap", "memory"))
    print(f"{'model':24}{'batch':>7}{'px':>5}{'fwd+bwd s':>11}{head}  difference")
    for name in options.model or MODELS:
        row = measure(name, options, beside=True)
        ratios = "".join(f"{row[key]:8.2f}x" for key in ("hooks", "alone", "loop", "vmap", "memory"))
        print(f"{name:24}{row['batch']:7}{row['size']:5}{row['plain_seconds']:11.2f}{ratios}  {row['difference']:.1e}")


def rows(
    device: str = "cpu",
    clock: str = "wall",
    models: Sequence[str] = tuple(MODELS),
    batch: int | None = None,
    size: int | None = None,
    repeats: int = 5,
) -> list[dict[str, Any]]:
    """The ratios alone, without the slow ways: name, device, ratio; those of memory with their own goal."""
    options = parse([])
    options.device, options.clock, options.batch, options.size, options.repeats = device, clock, batch, size, repeats
    found: list[dict[str, Any]] = []
    for name in models:
        row = measure(name, options, beside=False)
        case = f"{name}, batch {row['batch']}, {row['size']} px"
        found.append({"name": f"exact importance, {case}", "device": device, "ratio": row["hooks"]})
        memory = {"name": f"its peak memory, {case}", "device": device, "ratio": row["memory"], "goal": MEMORY_GOAL}
        found.append(memory)
    return found


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help=f"of torchvision or timm; repeatable; default {[*MODELS]}")
    parser.add_argument("--batch", type=int, help="default: the model's own, 16 for one that is not listed")
    parser.add_argument("--size", type=int, help="pixels a side; default: the model's own, else 128")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--loop-samples", type=int, default=4)
    parser.add_argument("--vmap-memory", type=int, default=1024, help="MiB of per-sample gradients at a time")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--threads", type=int, help="default: as many as torch takes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=get_args(Precision), default="float32", help="of all but loop and vmap")
    parser.add_argument("--json", action="store_true", help="one object a row; without loop and vmap")
    parser.add_argument("--peak", choices=("plain", "hooks"), help="print the peak memory of one of the two, in bytes")
    return parser.parse_args(arguments)


def measure(name: str, options: argparse.Namespace, *, beside: bool) -> dict[str, Any]:
    """One model's ratios; `beside` with the slow ways and the difference."""
    model, images = case(name, options)
    few = images[: options.loop_samples]
    gradient = sum(p.numel() * p.element_size() for p in model.parameters())
    some = images[: max(1, options.vmap_memory * 2**20 // gradient)]
    batches = Statistics(model, precision=options.precision)
    runs: dict[str, Callable[[], object]] = {
        "plain": lambda: forward_and_backward(model, images, options.precision),
        "hooks": lambda: batches.add(images),
    }
    if beside:
        runs["alone"] = lambda: per_sample_statistic(model, images, precision=options.precision)
        runs["loop"] = lambda: per_sample_statistic(model, few, engine="loop")
        runs["vmap"] = lambda: by_vmap(model, some)
    with freed_memory_kept():  # as in a run; otherwise a side is the slower for what the one before it gave back
        seconds = interleaved(runs, options)
    parts = {"loop": len(few), "vmap": len(some)}
    row: dict[str, Any] = {"batch": len(images), "size": images.shape[-1], "plain_seconds": seconds["plain"]}
    for key in runs.keys() - {"plain"}:
        row[key] = seconds[key] / seconds["plain"] * len(images) / parts.get(key, len(images))
    if beside:
        row["difference"] = difference(model, few)
    peak = {side: peak_in_a_process(side, name, options) for side in ("plain", "hooks")}
    return row | {"memory": peak["hooks"] / peak["plain"]}


def case(name: str, options: argparse.Namespace) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    batch, size = MODELS.get(name, (16, 128))
    size = options.size or size
    model = build(name).eval().to(options.device)
    return model, torch.randn(options.batch or batch, 3, size, size, device=options.device)


def build(name: str) -> nn.Module:
    """A backbone with its classifier, randomly initialised: the time does not depend on the weights."""
    if name in torchvision.models.list_models():
        return torchvision.models.get_model(name)
    return timm.create_model(name)


def forward_and_backward(model: nn.Module, images: Tensor, precision: Precision = "float32") -> None:
    model.zero_grad()
    with rounding(precision):
        squared_norm(forward_in(precision, model)(images)).sum().backward()


def by_vmap(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def scalar(parameters: dict[str, Tensor], image: Tensor) -> Tensor:
        return squared_norm(functional_call(model, parameters, (image[None],))).sum()

    gradients = vmap(grad(scalar), in_dims=(None, 0))(parameters, images)
    return {name: value.abs_().sum(0) for name, value in gradients.items()}


def difference(model: nn.Module, images: Tensor) -> float:
    ours, loop = per_sample_statistic(model, images), per_sample_statistic(model, images, engine="loop")
    return max(float((ours[key] - loop[key]).abs().max() / loop[key].max()) for key in loop)


def interleaved(runs: dict[str, Callable[[], object]], options: argparse.Namespace) -> dict[str, float]:
    clock = CLOCKS[options.clock]
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(options.repeats + 1):
        for name, run in runs.items():
            synchronize(options)
            start = clock()
            run()
            synchronize(options)
            if repeat:
                seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def synchronize(options: argparse.Namespace) -> None:
    if options.device != "cpu":
        torch.accelerator.synchronize()


def peak_in_a_process(side: str, name: str, options: argparse.Namespace) -> int:
    command = [sys.executable, __file__, "--peak", side, "--model", name, "--device", options.device]
    command += ["--precision", options.precision]
    for flag, value in (("--batch", options.batch), ("--size", options.size), ("--threads", torch.get_num_threads())):
        command += [flag, str(value)] if value else []
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def peak_bytes(side: str, options: argparse.Namespace) -> int:
    """Of two batches, above what stood before them."""
    model, images = case(options.model[0], options)
    batches = Statistics(model, precision=options.precision)
    plain = partial(forward_and_backward, model, images, options.precision)
    run = plain if side == "plain" else partial(batches.add, images)
    if options.device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark of Linux, back to the present
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
