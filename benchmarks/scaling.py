"""Time of a training step on many devices, from measurements on one: the model of docs/scaling.md.

    python benchmarks/scaling.py --seconds 0.30 --batch 8 --node-link 25 --loader 400
    python benchmarks/scaling.py --measure     # the small model in 1 and 2 processes on this CPU

``--seconds`` is a step on one device (benchmarks/train_step.py), the links are the bus bandwidths
that torchrun -m csa_inpaint.doctor prints, and ``--loader`` is the rate that it prints for one node
with all its processes.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from common import commit, machine, table, versions

DATA_SETS = {"Places2": 1_803_460, "CelebA": 162_770}  # training images
DAY = 86_400  # seconds
BUCKET = 25 * 2**20  # bytes; DDP sends gradients in buckets of this size


@dataclass
class Setting:
    """What is measured or assumed. Times are in seconds, bandwidths in 10⁹ bytes a second."""

    seconds: float  # a training step on one device
    batch: int  # images of that step
    generator: float = 132.1e6  # trained values
    discriminators: float = 13.3e6
    gradient_bytes: int = 4  # of one value: 4 in float32, 2 with a bf16 communication hook
    per_node: int = 8  # devices
    device_link: float = 150.0  # bus bandwidth of an all-reduce within a node
    node_link: float = 10.0  # the same between nodes
    overlap: float = 0.4  # share of the step in whose time gradients can be sent
    latency: float = 2e-5  # of one message
    loader: float | None = None  # images a second that one node loads; None: enough


@dataclass
class Step:
    """Predicted seconds of the parts of one step."""

    compute: float
    exchange: float  # of all gradients, if nothing ran beside it
    exposed: float  # what of the exchange the step waits for
    data: float  # until the node has loaded the batches of its devices

    @property
    def whole(self) -> float:
        return max(self.compute + self.exposed, self.data)

    @property
    def bound(self) -> str:
        """What a faster step would need first."""
        if self.data > self.compute + self.exposed:
            return "data"
        return "network" if self.exposed > 0.1 * self.compute else "compute"


def predict(setting: Setting, devices: int) -> Step:
    """Predict one step on a number of devices, each with the same batch as the one device."""
    within = min(devices, setting.per_node)
    data = 0.0 if setting.loader is None else within * setting.batch / setting.loader
    if devices == 1:
        return Step(setting.seconds, 0.0, 0.0, data)
    link = setting.device_link
    if devices > setting.per_node:
        link = min(link, setting.node_link)
    size = setting.gradient_bytes * (setting.generator + setting.discriminators)
    buckets = -(-size // BUCKET)
    # A ring: each device sends and receives 2 (n - 1) / n of all bytes, in 2 (n - 1) messages.
    exchange = 2 * (devices - 1) / devices * size / (link * 1e9)
    exchange += 2 * (devices - 1) * setting.latency
    # The last bucket is complete only when the backward pass is over.
    exposed = max(exchange - setting.overlap * setting.seconds, exchange / buckets)
    return Step(setting.seconds, exchange, exposed, data)


def rows(setting: Setting, counts: list[int]) -> list[list[str]]:
    """One row for each number of devices."""
    result = []
    for devices in counts:
        step = predict(setting, devices)
        rate = devices * setting.batch / step.whole
        parts = (step.whole, step.compute, step.exchange, step.exposed, step.data)
        result.append(
            [
                str(devices),
                str(devices * setting.batch),
                *(f"{1000 * part:.0f}" for part in parts),
                f"{rate:.0f}",
                f"{setting.seconds / step.whole:.0%}",
                *(f"{rate * DAY / images:.1f}" for images in DATA_SETS.values()),
                step.bound,
            ]
        )
    return result


HEAD = ["devices", "batch", "step, ms", "compute", "all-reduce", "waited for", "data",
        "images/s", "efficiency", *(f"{name}: epochs a day" for name in DATA_SETS),
        "bound by"]  # fmt: skip


class StepTimer(pl.Callback):
    """Prints the median time of the steps after the first two, from process 0."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.ends.append(time.perf_counter())

    def on_train_end(self, trainer: pl.Trainer, *_: Any) -> None:
        steps = [b - a for a, b in zip(self.ends[1:], self.ends[2:], strict=False)]
        if trainer.global_rank == 0:
            print(f"\nseconds a step: {statistics.median(steps)}")


def measured(processes: int, batch: int, steps: int) -> float:
    """Seconds of a step of the small model, trained as a user trains it, on the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                sys.executable, "-m", "csa_inpaint.train", f"output_root={folder}",
                "strategy=ddp", f"trainer.devices={processes}", "trainer.accelerator=cpu",
                f"data.batch_size={batch}", "trainer.max_epochs=1",
                f"trainer.limit_train_batches={steps}", "trainer.limit_val_batches=0",
                "callbacks.best=null", "callbacks.last=null", "callbacks.preview=null",
                "callbacks.progress=null", "+callbacks.timer._target_=scaling.StepTimer",
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1",
                 "PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return float(done.stdout.rpartition("seconds a step: ")[2].split()[0])


def measure(batch: int, steps: int) -> str:
    """A table of the small model in one and in two processes, with one thread each."""
    result = []
    one = 0.0
    for processes in (1, 2):
        seconds = measured(processes, batch, steps)
        one = one or seconds
        rate = processes * batch / seconds
        row = [str(processes), str(processes * batch), f"{1000 * seconds:.0f}", f"{rate:.1f}"]
        result.append([*row, f"{one / seconds:.0%}"])
    load = os.getloadavg()[0]
    return table(
        f"{machine('cpu')}; {versions()}; {commit()}; load {load:.1f} at the end",
        ["processes", "batch", "step, ms", "images/s", "efficiency"],
        result,
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    standard = Setting(0.3, 8)
    parser.add_argument("--seconds", type=float, help="a training step on one device")
    parser.add_argument("--batch", type=int, help="images of that step; with --measure 4, else 8")
    for name, text in {
        "generator": "trained values of the generator",
        "discriminators": "trained values of the discriminators",
        "gradient-bytes": "bytes of one gradient: 4, or 2 with a bf16 communication hook",
        "per-node": "devices in a node",
        "device-link": "bus bandwidth within a node, GB/s",
        "node-link": "bus bandwidth between nodes, GB/s",
        "overlap": "share of a step in whose time gradients can be sent",
        "latency": "seconds of one message",
    }.items():
        value = getattr(standard, name.replace("-", "_"))
        parser.add_argument(
            f"--{name}", type=type(value), default=value, help=f"{text}; default %(default)s"
        )
    parser.add_argument("--loader", type=float, help="images a second that one node loads")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--measure", action="store_true", help="train 1 and 2 CPU processes")
    parser.add_argument("--steps", type=int, default=12, help="of --measure, the first 2 left out")
    options = parser.parse_args()
    if options.measure:
        if options.steps < 3:
            parser.error(f"--steps {options.steps}: expected 3 or more")
        return options
    if options.seconds is None:
        parser.error("give --seconds, a training step on one device, or --measure")
    numbers = {name: value for name, value in vars(options).items() if isinstance(value, float)}
    for name, value in numbers.items():
        if value <= 0 and name not in ("latency", "overlap"):
            parser.error(f"--{name.replace('_', '-')} {value:g}: expected more than 0")
    if not 0 <= options.overlap < 1:
        parser.error(f"--overlap {options.overlap:g}: expected a share from 0 to below 1")
    return options


def main() -> None:
    options = vars(arguments())
    counts, steps = options.pop("devices"), options.pop("steps")
    batch = options.pop("batch")
    if options.pop("measure"):
        print(measure(batch or 4, steps))
        return
    setting = Setting(**options, batch=batch or 8)
    print(table("Predicted training step", HEAD, rows(setting, counts)))


if __name__ == "__main__":
    main()
