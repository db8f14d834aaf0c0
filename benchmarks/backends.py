"""Time of the paper's networks by backend and runtime, and what bfloat16 changes of a picture.

    python benchmarks/backends.py CHECKPOINT [--threads 2] [--runtimes]

The networks have width 64, depth 8 and random weights, and compute 256x256 images with a hole of
128x128. All backends run in one process and by turns. ``--runtimes`` exports the networks and
measures onnxruntime and OpenVINO too, where they are installed. CHECKPOINT is a trained model:
the pictures of both backends are compared on the shipped validation photographs, since a network
of random weights tells hardly any patches apart.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, commit, machine, table, versions
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from csa_inpaint import CSAInpainter, load_model
from csa_inpaint.data.images import load_image
from csa_inpaint.data.listing import list_images
from csa_inpaint.data.transforms import to_tensor
from csa_inpaint.inference.backends import bfloat16
from csa_inpaint.inference.exporting import export_onnx

SIZE = 256
BATCHES = (1, 4, 16)
SECONDS = 12.0  # of measuring, for each batch and each way to compute
PHOTOS = Path(__file__).parents[1] / "src/csa_inpaint/data/photos/val"
Call = Callable[[Tensor, Tensor], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--runtimes", action="store_true")
    parser.add_argument("--shared", action="store_true", help="say that others used the machine")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = CSAInpainter(width=64, depth=8, ema_decay=None, vgg={"weights": "random"}).eval()
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        reduced = bfloat16(model)
        conversion = time.perf_counter() - start
        ways: dict[str, Call] = {
            "float32, eager": model,
            "float32 weights, autocast": autocast(model),
            "`bfloat16`": lambda image, mask: reduced(image.bfloat16(), mask.bfloat16()),
        }
        if arguments.runtimes:
            ways |= runtimes(model, Path(folder) / "model.onnx", arguments.threads)
        with FlopCounterMode(display=False) as counter:
            model(*inputs(1))
        operations = counter.get_total_flops()
        rates = {dtype: product_rate(dtype) for dtype in (torch.float32, torch.bfloat16)}
        rows = []
        for batch in arguments.batches:
            times = by_turns(ways, inputs(batch), arguments.seconds)
            first = times["float32, eager"]
            for name, seconds in times.items():
                rate = batch * operations / seconds
                rows.append(
                    [
                        str(batch), name, f"{seconds / batch:.3f}", f"{first / seconds:.2f}",
                        f"{rate / rates[torch.float32]:.0%}", f"{rate / rates[torch.bfloat16]:.0%}",
                    ]
                )  # fmt: skip
                print(*rows[-1], flush=True)
        ratios = likeness(arguments.checkpoint)
    head = ["batch", "", "s an image", "times float32"]
    head += ["of the float32 product", "of the bfloat16 product"]
    shared = " Others used the machine at the same time: the ratios say more than the seconds."
    text = (
        f"# Backends of inference\n\n{machine('cpu')}; {versions()}, {arguments.threads} threads; "
        f"{commit()}.{shared if arguments.shared else ''}\n"
        f"Images of {SIZE}x{SIZE}, width 64, depth 8: {operations / 1e9:.0f} GFLOP an image. "
        "Medians of runs by turns. A product of two matrices of 2048x2048 reaches "
        f"{rates[torch.float32] / 1e9:.0f} GFLOP/s in float32 and "
        f"{rates[torch.bfloat16] / 1e9:.0f} in bfloat16.\n"
        f"{table('Time', head, rows)}\n\n"
        f"The conversion to bfloat16, once for each model, took {conversion:.2f} s.\n\n"
        "PSNR between the composites of float32 and `bfloat16` of a trained model, "
        f"{len(ratios)} photographs with a hole of half the side: lowest {min(ratios):.1f} dB, "
        f"mean {np.mean(ratios):.1f} dB.\n"
    )
    print(text)
    (RESULTS / "backends.md").write_text(text)


def inputs(batch: int) -> tuple[Tensor, Tensor]:
    mask = torch.zeros(batch, 1, SIZE, SIZE)
    mask[..., SIZE // 4 : -SIZE // 4, SIZE // 4 : -SIZE // 4] = 1
    return torch.rand(batch, 3, SIZE, SIZE) * 2 - 1, mask


def autocast(model: CSAInpainter) -> Call:
    def call(image: Tensor, mask: Tensor) -> object:
        with torch.autocast("cpu", torch.bfloat16):
            return model(image, mask)

    return call


def runtimes(model: CSAInpainter, path: Path, threads: int) -> dict[str, Call]:
    """The exported network in the runtimes that are installed."""
    export_onnx(model, path)
    ways: dict[str, Call] = {}
    if find_spec("onnxruntime") is not None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        ways["onnxruntime, float32"] = lambda image, mask: session.run(
            None, {"image": image.numpy(), "mask": mask.numpy()}
        )
    if find_spec("openvino") is not None:
        import openvino

        for name, hint in (("float32", "f32"), ("bfloat16", "bf16")):
            compiled = openvino.Core().compile_model(
                path, "CPU", {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}
            )
            ways[f"OpenVINO, {name}"] = by_name(compiled)
    return ways


def by_name(compiled: Callable[[dict[str, Any]], object]) -> Call:
    return lambda image, mask: compiled({"image": image.numpy(), "mask": mask.numpy()})


def by_turns(
    ways: dict[str, Call], given: tuple[Tensor, Tensor], seconds: float
) -> dict[str, float]:
    """Median seconds of a call; all ways take turns, at least three after one to warm up."""
    for call in ways.values():
        call(*given)
    measured: dict[str, list[float]] = {name: [] for name in ways}
    end = time.perf_counter() + seconds * len(ways)
    while time.perf_counter() < end or len(measured[next(iter(ways))]) < 3:
        for name, call in ways.items():
            start = time.perf_counter()
            call(*given)
            measured[name].append(time.perf_counter() - start)
    return {name: float(np.median(times)) for name, times in measured.items()}


def product_rate(dtype: torch.dtype, side: int = 2048) -> float:
    """Operations a second of a product of matrices."""
    matrix = torch.randn(side, side).to(dtype)
    given = matrix, matrix
    (seconds,) = by_turns({"product": torch.matmul}, given, 2).values()
    return 2 * side**3 / seconds


def likeness(checkpoint: str) -> list[float]:
    """PSNR between the composites of both backends, for each photograph."""
    model = load_model(checkpoint)
    size = model.trained_size or SIZE
    mask = torch.zeros(1, 1, size, size)
    mask[..., size // 4 : -size // 4, size // 4 : -size // 4] = 1
    ratios = []
    for path in list_images(PHOTOS):
        picture = load_image(path).resize((size, size))
        image = (to_tensor(picture).float() / 127.5 - 1)[None]
        expected = model(image, mask).composite
        refined = bfloat16(model)(image.bfloat16(), mask.bfloat16()).refined.float()
        found = torch.where(mask > 0.5, refined, image)
        ratios.append(float(10 * torch.log10(4 / (found - expected).square().mean())))
    return ratios


if __name__ == "__main__":
    main()
