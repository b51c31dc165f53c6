"""How the factors of multiplications are rounded while importance is measured; every sum is that of float32.

- float32: not at all, whatever torch's settings for the whole process are;
- tf32: on a GPU to TF32 (10 bits behind the point), by its tensor cores. On the CPU that is float32: as everywhere in
  torch, who has no such hardware loses nothing by the permission;
- bf16: forward and backward under autocast to bfloat16 (7 bits), and so the factors of every sample's gradient.

Accumulated in float32 are the sums over positions and over samples. oneDNN, on the CPU, gives a sum over positions of
bfloat16 factors only rounded to bfloat16 again; it is added up in float32 from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from tripletcl.continual.precision import DepthwiseInFloat32
from tripletcl.errors import UserError

Precision = Literal["float32", "tf32", "bf16"]


def check_precision(precision: str) -> None:
    """Refuse a precision that there is not.

    Raises:
        UserError: says which there are.
    """
    if precision not in (known := get_args(Precision)):
        raise UserError(f"importance is measured in {', '.join(known[:-1])} or {known[-1]}, not in {precision!r}")


@contextmanager
def rounding(precision: Precision) -> Iterator[None]:
    """Inside, torch multiplies float32 as the precision says; afterwards as it did before."""
    cuda, cudnn, cpu = (getattr(torch.backends, name) for name in ("cuda", "cudnn", "mkldnn"))
    on_gpu, places = (cuda.matmul, cudnn.conv, cudnn.rnn), (cuda.matmul, cudnn.conv, cudnn.rnn, cpu.matmul, cpu.conv)
    before = [place.fp32_precision for place in places]
    older = _older_settings()
    rounded = precision != "float32"  # bfloat16 loses nothing in TF32
    try:
        # First by the older settings, which set the newer ones: code that asks for either finds what is true.
        _set_older("high" if rounded else "highest", rounded)
        for place in places:
            place.fp32_precision = "tf32" if rounded and place in on_gpu else "ieee"
        yield
    finally:
        if older:
            _set_older(*older)
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = "none"
            if place.fp32_precision != value:  # it was its own, and not that of the backend as a whole
                place.fp32_precision = value


def _older_settings() -> tuple[str, bool] | None:
    """Of products and of convolutions; None where somebody has set the newer ones to what these cannot express."""
    try:
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    except RuntimeError:
        return None


def _set_older(products: str, convolutions: bool) -> None:
    torch.set_float32_matmul_precision(products)
    torch.backends.cudnn.allow_tf32 = convolutions


def forward_in(precision: Precision, forward: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    """The same function, under autocast where the precision is bf16; what it gives is float32 again."""
    if precision != "bf16":
        return forward

    def under_autocast(inputs: Tensor) -> Any:
        device = inputs.device.type
        slow = DepthwiseInFloat32() if device == "cpu" else nullcontext()
        with torch.autocast(device, torch.bfloat16), slow:
            outputs = forward(inputs)
        return outputs.float() if isinstance(outputs, Tensor) and outputs.dtype == torch.bfloat16 else outputs

    return under_autocast


def factor_type(precision: Precision, dtype: torch.dtype) -> torch.dtype:
    """In which a layer's rule is given inputs and gradients of a type."""
    if precision == "bf16" and dtype != torch.float64:
        return torch.bfloat16
    return wide(dtype)


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type that sums are taken in: float32 at least."""
    return torch.promote_types(dtype, torch.float32)
