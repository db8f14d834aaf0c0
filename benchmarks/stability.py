"""Does the default training stay finite? Every loss, gradient and weight of long runs.

    python benchmarks/stability.py --steps 50 --batches 1 --precisions fp32   # a quick look
    python benchmarks/stability.py                                # 2,000 steps each: hours on a CPU

Trains the photographs that come with the library with the shipped configuration, both adversaries
included, at a constant learning rate, once for each batch size and precision. After every step all
terms, the gradients of both sides and all weights are looked at. Writes
benchmarks/results/stability.md after each run.
"""

import argparse
import itertools
import logging
import statistics
import time
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from common import RESULTS, commit, machine, table, versions
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.optim import Optimizer

from csa_inpaint import CSAInpainter
from csa_inpaint.cli.conf import config_directory
from csa_inpaint.losses.terms import Term
from csa_inpaint.training.finiteness import NonFiniteLossError
from csa_inpaint.training.observer import TermObserver
from csa_inpaint.types import Batch

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed"}


class Recorder(TermObserver):
    """Keeps the losses and gradient norms of every step, and counts what is not finite."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}
        self.steps = 0
        self.not_finite: dict[str, int] = {"losses": 0, "gradients": 0, "weights": 0}

    def on_discriminator_terms(
        self, pl_module: CSAInpainter, batch: Batch, terms: Sequence[Term]
    ) -> None:
        self._keep(terms)

    def on_generator_terms(
        self, pl_module: CSAInpainter, batch: Batch, terms: Sequence[Term]
    ) -> None:
        self._keep(terms)

    def _keep(self, terms: Sequence[Term]) -> None:
        for term in terms:
            self._add(term.name, float(term.loss.detach()))
            self.not_finite["losses"] += not term.loss.isfinite()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        side = ("generator", "discriminator")[trainer.optimizers.index(optimizer)]
        norm = total_norm([p.grad for group in optimizer.param_groups for p in group["params"]])
        self._add(f"{side} gradient norm", norm)
        self.not_finite["gradients"] += not torch.tensor(norm).isfinite()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        self.steps += 1
        norm = total_norm([p.detach() for p in pl_module.parameters()])
        self.not_finite["weights"] += not torch.tensor(norm).isfinite()

    def _add(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)


def total_norm(tensors: Sequence[Tensor | None]) -> float:
    return float(nn.utils.get_total_norm([t for t in tensors if t is not None]))


class Run(NamedTuple):
    """One training."""

    name: str
    recorder: Recorder
    failure: str | None
    psnr: float | None
    seconds: float


def train(options: argparse.Namespace, batch_size: int, precision: str) -> Run:
    overrides = [
        f"data.batch_size={batch_size}",
        "data.val_batch_size=2",
        f"data.size={options.size}",
        f"model.width={options.width}",
        "model.schedule.decay=0",
        *options.overrides,
    ]
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        cfg = compose("train", overrides)
    pl.seed_everything(cfg.seed, verbose=False)
    recorder = Recorder()
    adversaries = [instantiate(node, _convert_="all") for node in cfg.adversary.values()]
    module = instantiate(cfg.model, _convert_="all")
    data = instantiate(cfg.data, _convert_="all")
    trainer = pl.Trainer(
        accelerator="gpu" if options.device == "cuda" else "cpu",
        devices=1,
        precision=PRECISIONS[precision],  # type: ignore[arg-type]
        max_steps=options.steps * (2 if adversaries else 1),  # it counts optimizer steps
        max_epochs=-1,
        limit_val_batches=0,
        callbacks=[*adversaries, recorder],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    begin, failure, psnr = time.perf_counter(), None, None
    try:
        trainer.fit(module, data)
    except NonFiniteLossError as error:
        failure = str(error)
    seconds = time.perf_counter() - begin
    if failure is None:
        trainer.limit_val_batches = 1.0
        (scores,) = trainer.validate(module, data, verbose=False)
        psnr = scores["val/psnr"]
    return Run(f"batch {batch_size}, {precision}", recorder, failure, psnr, seconds)


def report(options: argparse.Namespace, runs: list[Run]) -> str:
    summary = [
        [
            run.name,
            str(run.recorder.steps),
            *(str(count) for count in run.recorder.not_finite.values()),
            "–" if run.psnr is None else f"{run.psnr:.2f}",
            f"{run.seconds / 60:.1f} min",
        ]
        for run in runs
    ]
    names = list(dict.fromkeys(name for run in runs for name in run.recorder.values))
    spread = [
        [name, *(_spread(run.recorder.values.get(name, [])) for run in runs)] for name in names
    ]
    lines = [f"\n{run.name} stopped: {run.failure}" for run in runs if run.failure]
    parts = [
        table(
            "Values that are not finite",
            ["", "steps", "losses", "gradients", "weights", "final PSNR, dB", "wall time"],
            summary,
        ),
        *lines,
        table("Minimum / median / maximum", ["", *(run.name for run in runs)], spread),
    ]
    return "\n".join(["# Stability\n", notes(options), *parts]) + "\n"


def _spread(values: list[float]) -> str:
    if not values:
        return "–"
    return " / ".join(f"{v:.4g}" for v in (min(values), statistics.median(values), max(values)))


def notes(options: argparse.Namespace) -> str:
    extra = f" Overrides: {' '.join(options.overrides)}." if options.overrides else ""
    return (
        f"{machine(options.device)}; {versions()}, {options.threads} CPU threads; {commit()}.\n"
        f"{options.size}x{options.size}, width {options.width}, the shipped photographs and "
        "configuration (`python -m csa_inpaint.train`), both adversaries, constant learning rate, "
        f"{options.steps} steps for each column.{extra}\n\n"
        "Losses are not weighted; gradient norms are those of a side's weighted sum, as the update "
        "gets it. Columns of the first table count the terms, updates and steps with a value that "
        "is not finite. The PSNR is that of the composite, the mean of the ten held-out "
        "photographs. Batch sizes see different numbers of photographs in these steps."
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=2000, help="of each training")
    parser.add_argument("--size", type=int, default=128, help="side of the images")
    parser.add_argument("--width", type=int, default=16, help="of the networks and VGG-16")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8], help="sizes")
    parser.add_argument("--precisions", nargs="+", choices=list(PRECISIONS),
                        default=list(PRECISIONS))  # fmt: skip
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: CUDA when there is one")
    parser.add_argument("--output", default="stability.md", help="file below benchmarks/results")
    parser.add_argument(
        "--overrides", nargs="*", default=[], help="of the training's configuration"
    )
    options = parser.parse_args()
    options.device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if options.steps < 1:
        parser.error("--steps takes 1 or more")
    return options


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    for harmless in (".*does not have many workers.*", ".*LeafSpec.*", ".*val_dataloader.*"):
        warnings.filterwarnings("ignore", harmless)
    RESULTS.mkdir(exist_ok=True)
    runs: list[Run] = []
    for batch_size, precision in itertools.product(options.batches, options.precisions):
        runs.append(train(options, batch_size, precision))
        text = report(options, runs)
        (RESULTS / options.output).write_text(text)
        print(f"{runs[-1].name}: {runs[-1].failure or 'finite'}", flush=True)
    print(text)


if __name__ == "__main__":
    main()
