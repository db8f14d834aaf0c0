"""Ten thousand random cases: any finite features give finite output."""

import pytest
import torch
from torch import Tensor

from csa_inpaint.csa import CSALayer

CASES = 10_000
BATCH = 100


def random_case(generator: torch.Generator, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """One sample of features of a random kind, from all zeros to the limits of the dtype."""
    info = torch.finfo(dtype)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    per_patch = torch.randn(1, *shape[1:], generator=generator, dtype=torch.float64)
    exponents = torch.rand(1, *shape[1:], generator=generator, dtype=torch.float64)
    span = torch.tensor([info.smallest_normal, info.max], dtype=torch.float64).log()
    kinds = [
        x,
        x.relu(),
        torch.zeros_like(x),
        torch.full_like(x, float(x[0, 0, 0])),
        torch.full_like(x, info.max),
        x.sign() * info.max,
        x * info.max,
        x * info.smallest_normal,
        x.sign() * info.smallest_normal * info.eps,
        x * (span[0] + (span[1] - span[0]) * exponents).exp(),
        x[:, :1, :1] * per_patch,
        -x.abs(),
        x * (per_patch > 0.5),
        x.round(),
    ]
    kind = int(torch.randint(len(kinds), (), generator=generator))
    return kinds[kind].clamp(info.min, info.max).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_finite_features_give_finite_output(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(torch.finfo(dtype).bits + dtype.is_complex)
    for _ in range(CASES // 4 // BATCH):
        channels, height, width = torch.randint(1, 9, (3,), generator=generator).tolist()
        shape = (channels, height, width)
        x = torch.stack([random_case(generator, dtype, shape) for _ in range(BATCH)])
        share = torch.rand(BATCH, 1, 1, 1, generator=generator)
        mask = torch.rand(BATCH, 1, height, width, generator=generator) < share
        large = min(3, height, width)
        patch_size = 1 if torch.rand((), generator=generator) < 0.7 else large
        output = CSALayer(patch_size)(x, mask)

        assert output.isfinite().all()
        known = ~mask.expand_as(x)
        assert torch.equal(output[known], x[known])
        if patch_size > 1:
            continue
        # A convex combination lies between the smallest and the largest known value of a channel.
        passes = (mask.all(dim=(1, 2, 3)) | ~mask.any(dim=(1, 2, 3)))[:, None, None, None]
        low = x.masked_fill(~known, float("inf")).amin((2, 3), keepdim=True).double()
        high = x.masked_fill(~known, float("-inf")).amax((2, 3), keepdim=True).double()
        slack = 8 * torch.finfo(dtype).eps * torch.maximum(low.abs(), high.abs())
        slack += torch.finfo(dtype).smallest_normal
        inside = (output >= low - slack) & (output <= high + slack)
        assert (inside | passes).all()
