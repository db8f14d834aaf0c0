"""Time and memory of one training step and one inference, split into their parts.

    python benchmarks/train_step.py --size 128 --width 24 --depth 6 --batch 8
    python benchmarks/train_step.py --table   # 256x256, width 64: two to three minutes on two cores

The steps are those of a Trainer: the module's own methods with both adversaries, the consistency
loss, the moving average and the photographs that come with the library. Each configuration runs in
a process of its own; on a CUDA device the times are between events on its stream.
"""

import argparse
import itertools
import json
import logging
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, TypedDict

import pytorch_lightning as pl
import torch
from common import RESULTS, commit, machine, peak_memory, table, versions
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from csa_inpaint import CSAInpainter
from csa_inpaint.adversaries import (
    FeatureAdversary,
    PatchAdversary,
    RelativisticAverageLeastSquares,
)
from csa_inpaint.data import CenterMask, InpaintingDataModule, ShippedPhotos, to_float
from csa_inpaint.losses.terms import Term
from csa_inpaint.methods.csa import Generator
from csa_inpaint.types import Batch, Inpainting

PARTS = ("generator", "losses", "backward", "discriminators", "optimizer", "data wait")
CSA, CSA_BACKWARD = "CSA", "CSA backward"
# The released code at 256x256, width 64, fp32, batch 1, on two CPU cores: seconds.
RELEASED = {"training": 2.65, "inference": 0.53}


class Measured(TypedDict):
    """Median milliseconds of the parts and of the whole, and MB at the peak."""

    training: dict[str, float]
    inference: dict[str, float]
    training_memory: float
    inference_memory: float
    gflop: float  # of a training step's convolutions and products
    gflops: float  # a second, of a large matrix product in the same process


class Stopwatch:
    """One stretch of time after the other, each with the name of what happened in it."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.laps: list[dict[str, float]] = []
        self.part = ""
        self._marks: list[tuple[str, Any]] = []  # a part and when it began

    def switch(self, part: str) -> None:
        """From here on it is this part."""
        now: Any
        if self.device == "cuda":
            now = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            now.record()
        else:
            now = time.perf_counter()
        self._marks.append((part, now))
        self.part = part

    def lap(self, part: str) -> None:
        """End a step; the next one begins with this part."""
        self.switch(part)
        if self.device == "cuda":
            self._marks[-1][1].synchronize()
        milliseconds: dict[str, float] = {}
        for (name, begin), (_, end) in itertools.pairwise(self._marks):
            spent = begin.elapsed_time(end) if self.device == "cuda" else 1000 * (end - begin)
            milliseconds[name] = milliseconds.get(name, 0.0) + spent
        self.laps.append(milliseconds)
        self._marks = self._marks[-1:]

    def medians(self, laps: int) -> dict[str, float]:
        """Of each part, and of the ``whole``, over the last laps."""
        last = self.laps[-laps:]
        names = {name for lap in last for name in lap}
        found = {name: statistics.median(lap.get(name, 0.0) for lap in last) for name in names}
        return {**found, "whole": statistics.median(sum(lap.values()) for lap in last)}

    def watch_csa(self, layer: nn.Module) -> None:
        """Set the layer's forward and backward apart from what surrounds them."""
        around = ""

        def before(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            nonlocal around
            around = self.part
            if inputs[0].requires_grad:
                _on_gradient(inputs[0], lambda _: self.switch("backward"))
            self.switch(CSA)

        def after(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self.switch(around)
            if output.requires_grad:
                _on_gradient(output, lambda _: self.switch(CSA_BACKWARD))

        layer.register_forward_pre_hook(before)
        layer.register_forward_hook(after)


def _on_gradient(tensor: Tensor, tell: Callable[[Tensor], None]) -> None:
    tensor.register_hook(tell)  # type: ignore[no-untyped-call]


class TimedInpainter(CSAInpainter):
    """The module, telling a stopwatch what it is about to do."""

    stopwatch: Stopwatch
    warm_up: int
    gflop: float = float("nan")

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        if batch_idx == 0 and not self.compile_networks:
            with FlopCounterMode(display=False) as counter:
                super().training_step(batch, batch_idx)
            self.gflop = counter.get_total_flops() / 1e9
            self.stopwatch.lap("data wait")
            return
        if batch_idx == self.warm_up and self.stopwatch.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self.stopwatch.switch("generator")
        super().training_step(batch, batch_idx)
        self.stopwatch.lap("data wait")

    def discriminator_terms(self, batch: Batch, out: Inpainting) -> list[Term]:
        self.stopwatch.switch("discriminators")
        return super().discriminator_terms(batch, out)

    def generator_terms(self, batch: Batch, out: Inpainting) -> list[Term]:
        self.stopwatch.switch("losses")
        return super().generator_terms(batch, out)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and self.vgg is not None:
            # The discriminators ask first for the truth's features, but both sides use them.
            around = self.stopwatch.part

            def before(*_: Any) -> None:
                nonlocal around
                around = self.stopwatch.part
                self.stopwatch.switch("losses")

            self.vgg.register_forward_pre_hook(before)
            self.vgg.register_forward_hook(lambda *_: self.stopwatch.switch(around))

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        if self.stopwatch.part == "losses":
            self.stopwatch.switch("backward")
        super().manual_backward(loss, *args, **kwargs)
        self.stopwatch.switch("optimizer")


def measure(options: argparse.Namespace, batch_size: int, precision: str) -> Measured:
    """First the inference, then the training, whose peak is higher."""
    device, steps, warm_up = options.device, options.steps, options.warm_up
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    for harmless in (".*does not have many workers.*", ".*LeafSpec.*"):
        warnings.filterwarnings("ignore", harmless)
    photos = ShippedPhotos()
    needed = batch_size * (warm_up + steps)
    data = InpaintingDataModule(
        photos,
        CenterMask(),
        size=options.size,
        upscale_small=True,
        batch_size=batch_size,
        repeats=-(-needed // len(photos.files(None, "train"))),
        num_workers=options.workers,
        pin_memory=device == "cuda",
    )
    model = TimedInpainter(
        width=options.width,
        depth=options.depth,
        vgg={"weights": "random", "width": options.width},
        channels_last=options.channels_last,
        compile=options.compile,
    )
    model.warm_up = warm_up
    inference, inference_memory = infer(model.to(device), data, options, precision)

    model.stopwatch = Stopwatch(device)
    if not options.compile:  # hooks within the compiled networks would break them up
        model.stopwatch.watch_csa(model.generator.get_submodule("refinement.attention"))
    objective = RelativisticAverageLeastSquares()
    trainer = pl.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed" if precision == "bf16" else "32-true",
        max_epochs=1,
        limit_train_batches=warm_up + steps,
        limit_val_batches=0,
        callbacks=[PatchAdversary(objective), FeatureAdversary(objective)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(model, data)
    if len(model.stopwatch.laps) != warm_up + steps:
        raise SystemExit(f"{len(model.stopwatch.laps)} steps were taken, not {warm_up + steps}")
    return {
        "training": model.stopwatch.medians(steps),
        "inference": inference,
        "training_memory": peak(device),
        "inference_memory": inference_memory,
        "gflop": model.gflop,
        "gflops": product_rate(device, precision),
    }


def product_rate(device: str, precision: str) -> float:
    """10⁹ operations a second of a product of 2048×2048 matrices, the best of ten."""
    a = torch.randn(2048, 2048, device=device)
    a = a.bfloat16() if precision == "bf16" else a
    seconds = []
    for _ in range(11):
        start = time.perf_counter()
        a @ a
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(seconds) / 1e9


def infer(
    model: CSAInpainter, data: InpaintingDataModule, options: argparse.Namespace, precision: str
) -> tuple[dict[str, float], float]:
    """The module's forward, with the averaged generator, on a batch that is on the device."""
    device = options.device
    model.setup("predict")
    model.eval()
    assert model.ema is not None
    generator = model.ema.module
    assert isinstance(generator, Generator)
    loaded = next(iter(data.train_dataloader()))
    batch = to_float(
        Batch(loaded.image.to(device), loaded.mask.to(device), loaded.path), torch.float32
    )
    stopwatch = Stopwatch(device)
    if options.compile:
        generator.compile()
    else:
        stopwatch.watch_csa(generator.refinement.attention)
    with (
        torch.inference_mode(),
        torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"),
    ):
        for number in range(options.warm_up + options.steps):
            if number == options.warm_up and device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            stopwatch.switch("generator")
            model(batch.image, batch.mask)
            stopwatch.lap("between")
    model.train()
    return stopwatch.medians(options.steps), peak(device)


def peak(device: str) -> float:
    return torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else peak_memory()


def report(results: dict[tuple[int, str], Measured], released: bool) -> list[str]:
    """Tables of the training steps and of the inferences, and the figures of the released code."""
    training_rows, inference_rows, lines, bounds = [], [], [], []
    for (batch_size, precision), measured in results.items():
        name = f"batch {batch_size}, {precision}"
        spent, memory = measured["training"], measured["training_memory"]
        csa, csa_backward = spent.pop(CSA, None), spent.pop(CSA_BACKWARD, None)
        spent["generator"] += csa or 0.0
        spent["backward"] += csa_backward or 0.0
        whole = spent["whole"]
        training_rows.append(
            [
                name,
                f"{whole:.0f}",
                f"{whole / batch_size:.0f}",
                *(f"{spent[part]:.0f}" for part in PARTS),
                _share([csa, csa_backward], whole),
                f"{memory:.0f} MB",
            ]
        )
        spent, memory = measured["inference"], measured["inference_memory"]
        csa, forward = spent.get(CSA), spent["whole"]
        inference_rows.append(
            [
                name,
                f"{forward:.0f}",
                f"{forward / batch_size:.0f}",
                "–" if csa is None else f"{forward - csa:.0f}",
                _share([csa], forward),
                f"{memory:.0f} MB",
            ]
        )
        gflop, rate = measured["gflop"] / batch_size, measured["gflops"]
        bounds.append(
            f"- {name}: {gflop:.0f} GFLOP an image, {1000 * gflop / rate:.0f} ms at the {rate:.0f} "
            "GFLOP a second of a product of two 2048x2048 matrices here"
        )
        if released:
            training, inference = (
                1000 * RELEASED[kind] * batch_size / milliseconds
                for kind, milliseconds in (("training", whole), ("inference", forward))
            )
            lines.append(f"- {name}: {training:.2f}x in training, {inference:.2f}x in inference")
    csa_head, memory_head = "CSA layer (of the whole)", "peak memory"
    parts = [
        table(
            "Training step, ms",
            ["", "whole", "per image", "generator forward", *PARTS[1:],
             f"{csa_head}: forward + backward", memory_head],
            training_rows,
        ),
        table(
            "Inference, ms",
            ["", "whole", "per image", "without the CSA layer", csa_head, memory_head],
            inference_rows,
        ),
        "\n## What the arithmetic of a training step takes\n",
        *bounds,
    ]  # fmt: skip
    if released:
        parts += [
            "\n## Per image, against the released code\n",
            f"The released code takes {RELEASED['training']} s a training step and "
            f"{RELEASED['inference']} s an inference, at batch 1 in fp32 on two such CPU cores. "
            "These two figures are for orientation: they come from the project's reference notes "
            "and were not measured in this run, and that code's losses send back less gradient.\n",
            *lines,
        ]
    return parts


def _share(csa: list[float | None], whole: float) -> str:
    known = [milliseconds for milliseconds in csa if milliseconds is not None]
    if not known:
        return "–"
    return f"{' + '.join(f'{ms:.1f}' for ms in known)} ({sum(known) / whole:.1%})"


def notes(options: argparse.Namespace) -> str:
    memory = (
        "allocated on the device"
        if options.device == "cuda"
        else "of the process, libraries included"
    )
    compiled = (
        " With torch.compile the CSA layer is part of the graph and not timed apart."
        if options.compile
        else ""
    )
    return (
        f"{machine(options.device)}; {versions()}, {options.threads} CPU threads; {commit()}.\n"
        f"{options.size}x{options.size}, width {options.width}, depth {options.depth}, centred "
        f"hole of a quarter of the picture, VGG-16 with random weights of width {options.width}, "
        f"patch and feature-patch adversaries"
        f"{', channels-last' if options.channels_last else ''}"
        f"{', compiled' if options.compile else ''}, {options.workers} loading processes. "
        f"Medians of {options.steps} steps after {options.warm_up} to warm up.\n\n"
        "Losses are the generator's terms with the VGG-16 features they need; discriminators are "
        "their losses and backward; optimizer is every update, the moving average included; data "
        "wait is all that lies between two steps. The generator's forward and the backward contain "
        "the CSA layer's. Inference is the module's forward with the averaged generator, which "
        f"holds the trained one too. Memory is the peak {memory}.{compiled}"
    )


def in_a_process(batch_size: int, precision: str) -> Measured:
    """Measure one configuration, with the other arguments of this command line."""
    child = ["--child", "--batch", str(batch_size), "--precision", precision]
    output = subprocess.check_output([sys.executable, __file__, *sys.argv[1:], *child], text=True)
    measured: Measured = json.loads(output.splitlines()[-1])
    return measured


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=256, help="side of the images")
    parser.add_argument("--width", type=int, default=64, help="of the networks and VGG-16")
    parser.add_argument("--depth", type=int, default=8, help="halvings in both networks")
    parser.add_argument("--batch", type=int, nargs="+", help="sizes; default 1, --table 1 4")
    parser.add_argument("--precision", nargs="+", choices=("fp32", "bf16"),
                        help="default fp32, --table fp32 bf16")  # fmt: skip
    parser.add_argument("--channels-last", action="store_true", help="memory format")
    parser.add_argument("--compile", action="store_true", help="compile the networks")
    parser.add_argument("--steps", type=int, help="measured; default 3, on a CUDA device 20")
    parser.add_argument("--warm-up", type=int, help="steps before; default 1, on CUDA 5")
    parser.add_argument("--workers", type=int, default=2, help="processes that load data")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: CUDA when there is one")
    parser.add_argument("--table", action="store_true", help="write benchmarks/results/")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = options.device == "cuda"
    options.steps = (20 if on_gpu else 3) if options.steps is None else options.steps
    options.warm_up = (5 if on_gpu else 1) if options.warm_up is None else options.warm_up
    if options.steps < 1 or options.warm_up < 1:
        parser.error("--steps and --warm-up take 1 or more")
    options.batch = options.batch or ([1, 4] if options.table else [1])
    options.precision = options.precision or (["fp32", "bf16"] if options.table else ["fp32"])
    return options


def main() -> None:
    options = arguments()
    if options.child:
        print(json.dumps(measure(options, options.batch[0], options.precision[0])))
        return
    cases = list(itertools.product(options.batch, options.precision))
    results = {case: in_a_process(*case) for case in cases}
    released = (options.device, options.size, options.width, options.depth) == ("cpu", 256, 64, 8)
    text = "\n".join(["# Training step\n", notes(options), *report(results, released)]) + "\n"
    if options.table:
        RESULTS.mkdir(exist_ok=True)
        name = "train_step_gpu" if options.device == "cuda" else "train_step"
        (RESULTS / f"{name}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
