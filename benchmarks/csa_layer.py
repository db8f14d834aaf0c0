"""Speed and memory of the CSA layer, against the paper's loop and the bare similarity product.

    python benchmarks/csa_layer.py            # CPU, about a minute on two cores
    python benchmarks/csa_layer.py --gpu      # a CUDA device, after a check of the kernels
    python benchmarks/csa_layer.py --quick    # orientation: few repetitions, small sweeps

Every ratio is between two medians of the same process, its two sides timed in turns.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import RESULTS, commit, machine, peak_memory, table, versions
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from csa_inpaint.csa import CSALayer, naive_csa
from csa_inpaint.csa.choice import triton_kernels
from csa_inpaint.csa.propagate import (
    attend_pytorch,
    links,
    propagate_backward_pytorch,
    propagate_pytorch,
)
from csa_inpaint.csa.search import search_pytorch

CHANNELS = 512
Function = Callable[[], object]


def inputs(
    batch: int, size: int = 32, share: float = 0.25, device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Random features and a centred square hole of about this share."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(batch, CHANNELS, size, size, generator=generator).to(device, dtype)
    side = round(size * share**0.5)
    start = (size - side) // 2
    mask = torch.zeros(batch, 1, size, size, device=device)
    mask[:, :, start : start + side, start : start + side] = 1
    return features, mask


def medians(functions: dict[str, Function], repeats: int, device: str = "cpu") -> dict[str, float]:
    """Median milliseconds of each function, all of them timed in turns."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(repeats):
        for name, function in functions.items():
            if device == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            function()
            if device == "cuda":
                torch.cuda.synchronize()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def forward(function: Callable[[Tensor, Tensor], Tensor], x: Tensor, mask: Tensor) -> Function:
    def run() -> None:
        with torch.no_grad():
            function(x, mask)

    return run


def both(function: Callable[[Tensor, Tensor], Tensor], x: Tensor, mask: Tensor) -> Function:
    x = x.clone().requires_grad_()
    cotangent = torch.randn_like(x)
    return lambda: torch.autograd.grad(function(x, mask), x, cotangent)


def against_the_loop(repeats: int) -> str:
    x1, mask1 = inputs(1)
    x8, mask8 = inputs(8)
    query, keys = torch.randn(8, 256, CHANNELS), torch.randn(8, 768, CHANNELS)
    rows = []
    for name, mode in (("forward", forward), ("forward + backward", both)):
        time_of = medians(
            {
                "loop": mode(naive_csa, x1, mask1),
                "one": mode(CSALayer(), x1, mask1),
                "eight": mode(CSALayer(), x8, mask8),
                "product": lambda: torch.bmm(query, keys.mT),
            },
            repeats,
        )
        per_image = time_of["eight"] / 8
        rows.append(
            [
                name,
                f"{time_of['loop']:.1f} ms",
                f"{time_of['one']:.1f} ms ({time_of['loop'] / time_of['one']:.1f}x)",
                f"{per_image:.1f} ms ({time_of['loop'] / per_image:.1f}x)",
                f"{time_of['eight'] / time_of['product']:.2f}",
            ]
        )
    head = ["", "loop, batch 1", "layer, batch 1", "layer, batch 8, per image",
            "batch 8 / bare product of 256 hole and 768 known patches"]  # fmt: skip
    return table("CPU: 512 channels, 32x32, hole of 256 patches, float32", head, rows)


def memory(batch: int, size: int, backward: bool) -> float:
    """MB above inputs and outputs (and their gradients), by the peak of this fresh process."""
    mode = both if backward else forward

    x, mask = inputs(1, 8)
    mode(CSALayer(), x, mask)()
    before = peak_memory()
    x, mask = inputs(batch, size)
    mode(CSALayer(), x, mask)()
    # input, its copy, output and its gradient, gradient of the input; forward: input and output
    tensors = 5 if backward else 2
    return peak_memory() - before - tensors * x.numel() * 4 / 2**20


def memory_table() -> str:
    rows = []
    for batch, size in ((4, 64), (1, 128)):
        cells = [
            subprocess.check_output(
                [sys.executable, __file__, "--memory", str(batch), str(size), str(backward)],
                text=True,
            ).strip()
            for backward in (0, 1)
        ]
        rows.append([f"batch {batch}, {size}x{size}, 25 % hole", *(f"{c} MB" for c in cells)])
    return table(
        "CPU: memory above inputs and outputs", ["", "forward", "forward + backward"], rows
    )


def growth(x: list[float], y: list[float]) -> float:
    """The exponent of a power law fitted to the points."""
    a, b = torch.tensor(x).log(), torch.tensor(y).log()
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / (a * a).sum())


def sweeps(repeats: int, quick: bool, device: str, plot: Path) -> str:
    """Forward + backward against hole share, feature size and batch, with the fitted growth."""
    shares = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    sizes = [16, 32, 64] if quick else [32, 64, 128]
    batches = [1, 2, 4, 8] if quick else [1, 2, 4, 8, 16, 32]
    cases: dict[str, list[tuple[float, tuple[Tensor, Tensor]]]] = {
        "hole share": [(s, inputs(1, share=s, device=device)) for s in shares],
        "patches": [(s * s, inputs(1, s, device=device)) for s in sizes],
        "batch": [(b, inputs(b, device=device)) for b in batches],
    }
    data, rows = {}, []
    for name, points in cases.items():
        x = [point for point, _ in points]
        # One after the other: in turns, a large case would leave the small ones a cold cache.
        y = [
            medians({name: both(CSALayer(), *pair)}, max(3, repeats // 2), device)[name]
            for _, pair in points
        ]
        data[name] = {"x": x, "milliseconds": y, "exponent": growth(x, y)}
        cells = [f"{a:g}: {b:.1f}" for a, b in zip(x, y, strict=True)]
        rows.append([name, ", ".join(cells), f"{data[name]['exponent']:.2f}"])
    plot.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n")
    draw(data, plot)
    return table("Growth of forward + backward", ["against", "ms at each value", "exponent"], rows)


def draw(data: dict[str, dict[str, Any]], path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:  # the data file has all of it
        return
    figure = Figure(figsize=(10, 3), layout="constrained")
    for axes, (name, points) in zip(figure.subplots(1, len(data)), data.items(), strict=True):
        axes.loglog(points["x"], points["milliseconds"], "o-")
        axes.set_title(f"time ∝ ({name})^{points['exponent']:.2f}")
        axes.set_xticks(points["x"], [f"{x:g}" for x in points["x"]], fontsize=7)
        axes.set_xticks([], minor=True)
        axes.set_xlabel(name)
        axes.set_ylabel("ms")
    figure.savefig(path.with_suffix(".png"), dpi=120)


def pytorch_form(x: Tensor, mask: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
    """Output and gradient of the layer with 1x1 patches, through the PyTorch forms."""
    patches, hole = x.flatten(2).mT, mask.flatten(1) > 0.5
    linked = links(hole, x.shape[3], across_gaps=True)
    generated, match, weights = attend_pytorch(patches, hole, linked, True, True)
    grad = cotangent.flatten(2).mT.to(generated.dtype)
    gradient = propagate_backward_pytorch(
        grad, patches, hole, linked, match, generated, weights, True, True, False
    )
    return generated.mT.reshape(x.shape).to(x.dtype), gradient.mT.reshape(x.shape)


def relative_error(value: Tensor, wanted: Tensor) -> float:
    return float((value.double() - wanted.double()).norm() / wanted.double().norm())


def check(x: Tensor, mask: Tensor) -> list[float]:
    """How far the layer is from float64: of the matches' similarity, output and gradient.

    Output and gradient are those of the matches that the layer found: where two patches are equally
    similar to within rounding, either is right.
    """
    layer = CSALayer()
    hole = mask > 0.5
    x = x.detach().requires_grad_()
    found = layer.attend(x, hole)
    match, holes = found.match, found.hole
    cotangent = torch.randn_like(found.generated)
    (gradient,) = torch.autograd.grad(found.generated, x, cotangent)

    exact = x.detach().double().flatten(2).mT
    best, unit, norm = search_pytorch(exact, holes)
    directions = F.normalize(exact, dim=2)
    lost = [
        (direction * (direction[mine] - direction[theirs])).sum(1).abs().max()
        for direction, mine, theirs in zip(directions, match, best, strict=True)
    ]
    linked = links(holes, x.shape[3], across_gaps=True)
    generated, weights = propagate_pytorch(exact, holes, linked, match, unit, norm, True, True)
    wanted = propagate_backward_pytorch(
        cotangent.double(), exact, holes, linked, match, generated, weights, True, True, False
    )
    return [
        float(torch.stack(lost).max()),
        relative_error(found.generated.detach(), generated),
        relative_error(gradient, wanted.mT.reshape(x.shape)),
    ]


def kernel_times(function: Function, repeats: int = 20) -> list[tuple[str, float, float]]:
    """Name, launches and microseconds on the device per call, the longest first."""
    function()
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        for _ in range(repeats):
            function()
        torch.cuda.synchronize()
    events = profiled.key_averages()
    times = [(e.key, e.count / repeats, e.self_device_time_total / repeats) for e in events]
    return sorted((t for t in times if t[2] > 0), key=lambda t: -t[2])


def gpu(repeats: int, quick: bool) -> list[str]:
    rows, kernels = [], []
    for dtype in (torch.float32, torch.bfloat16):
        for batch in (1, 16):
            x, mask = inputs(batch, device="cuda", dtype=dtype)
            if triton_kernels(x.flatten(2).mT) is None:
                raise SystemExit(
                    "Triton is not installed or its kernels do not work: nothing to measure"
                )
            errors = check(x, mask)
            limits = (2e-6, 1e-5, 1e-5 if dtype == torch.float32 else 1e-2)
            if any(error > limit for error, limit in zip(errors, limits, strict=True)):
                raise SystemExit(f"{dtype}, batch {batch}: errors {errors} above {limits}")
            cotangent = torch.randn_like(x)
            time_of = medians(
                {
                    "forward": forward(CSALayer(), x, mask),
                    "both": both(CSALayer(), x, mask),
                    "pytorch": partial(pytorch_form, x, mask, cotangent),
                },
                repeats,
                "cuda",
            )
            name = f"{str(dtype).removeprefix('torch.')}, batch {batch}"
            rows.append(
                [
                    name,
                    f"{time_of['forward']:.2f} ms",
                    f"{time_of['both']:.2f} ms",
                    f"{time_of['pytorch']:.1f} ms ({time_of['pytorch'] / time_of['both']:.0f}x)",
                    ", ".join(f"{error:.1e}" for error in errors),
                ]
            )
            launched = kernel_times(both(CSALayer(), x, mask))
            total = sum(time for _, _, time in launched)
            longest = ", ".join(f"{kernel[:40]} {time:.0f}" for kernel, _, time in launched[:8])
            count = sum(launches for _, launches, _ in launched)
            kernels.append([name, f"{count:.0f}", f"{total:.0f} µs", longest])
    head = ["", "forward", "forward + backward", "PyTorch form, forward + backward",
            "error of similarity, output, gradient"]  # fmt: skip
    title = f"{torch.cuda.get_device_name()}: 512 channels, 32x32, hole of 256 patches"
    parts = [
        table(title, head, rows),
        table(
            "On the device, forward + backward",
            ["", "launches", "all of them", "the longest, in µs"],
            kernels,
        ),
    ]
    return [*parts, sweeps(repeats, quick, "cuda", RESULTS / "csa_layer_gpu")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpu", action="store_true", help="measure the kernels on a CUDA device")
    parser.add_argument("--quick", action="store_true", help="orientation only")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--memory", nargs=3, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory:
        batch, size, backward = options.memory
        print(f"{memory(batch, size, bool(backward)):.0f}")
        return
    RESULTS.mkdir(exist_ok=True)
    repeats = 3 if options.quick else 15
    name = "csa_layer_gpu" if options.gpu else "csa_layer"
    parts = [
        "# CSA layer\n",
        f"{machine('cuda' if options.gpu else 'cpu')}; {versions()}, {options.threads} CPU "
        f"threads; {commit()}. Medians of {repeats}.",
    ]
    if options.gpu:
        parts += gpu(repeats, options.quick)
    else:
        parts.append(against_the_loop(repeats))
        parts.append(memory_table())
        parts.append(sweeps(repeats, options.quick, "cpu", RESULTS / name))
    text = "\n".join(parts) + "\n"
    (RESULTS / f"{name}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
