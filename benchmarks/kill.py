"""Is anything lost when a process is killed? kill -9 at random moments, saving included.

    python benchmarks/kill.py --kills 3 --processes 1     # a quick look
    python benchmarks/kill.py                             # 20 kills of two processes

Trains a tiny model once without a stop. Then trains the same model again and again in one folder
(``checkpoint=auto``), and kills one process, chosen at random, at a random moment; every other kill
waits for a checkpoint that is being written. The processes have the environment that torchrun gives
them, but no agent that ends the others. After the last kill the training runs to its end. Weights,
optimizers and metrics must be those of the training without a stop. Writes
benchmarks/results/kill.md.
"""

import argparse
import csv
import json
import multiprocessing
import os
import random
import signal
import socket
import sys
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch
from common import RESULTS, commit, machine, table, versions
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from csa_inpaint.weights.files import read_checkpoint

MEASURED = ("health/images_per_second", "health/data_wait", "health/memory_mb")
KEPT = ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step", "window")


class Kill(NamedTuple):
    """What a kill met and left."""

    rank: int
    saving: bool  # a checkpoint was being written
    step: int  # batches that were logged
    ended: float  # seconds until the last process of the training had ended
    left: list[str]  # files in the folder of checkpoints


class Training(NamedTuple):
    """The processes of one start, rank 0 first, and the store in which they find each other."""

    processes: list[BaseProcess]
    store: TCPStore | None

    @property
    def alive(self) -> bool:
        return any(process.is_alive() for process in self.processes)

    @property
    def failed(self) -> bool:
        """Wait for the end; whether a process ended with an error."""
        for process in self.processes:
            process.join()
        return any(process.exitcode for process in self.processes)


def arguments_of(folder: Path, options: argparse.Namespace) -> list[str]:
    """The arguments of the training, as a user types them."""
    return [
        f"hydra.run.dir={folder}",
        "checkpoint=auto",
        "every_minutes=1e-9",  # after every update
        "model.width=4",
        "model.depth=4",
        "model.vgg={weights: random, width: 4}",
        "data.size=64",
        "data.batch_size=1",
        "data.num_workers=0",
        f"trainer.max_epochs={options.epochs}",
        f"trainer.limit_train_batches={options.batches}",
        "trainer.limit_val_batches=1",
        "trainer.accelerator=cpu",
        f"trainer.devices={options.processes}",
        "trainer.log_every_n_steps=1",
        "callbacks.preview=null",
        *(["strategy=ddp"] if options.processes > 1 else []),
    ]


def train(arguments: list[str], environment: dict[str, str], log: Path) -> None:
    """Run the command in this process."""
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    sys.argv = ["csa_inpaint.train", *arguments]
    from csa_inpaint.train import main  # loaded before the process was forked

    main()


def start(folder: Path, options: argparse.Namespace) -> Training:
    context = multiprocessing.get_context("forkserver")  # the library loads once, not at each start
    context.set_forkserver_preload(["csa_inpaint.train", "csa_inpaint.methods.csa"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes: list[BaseProcess] = []
    for rank in range(options.processes):
        environment = {"OMP_NUM_THREADS": "1"}
        if options.processes > 1:
            environment |= {
                "TORCHELASTIC_RUN_ID": "kill",
                "TORCHELASTIC_USE_AGENT_STORE": "True",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(options.processes),
                "LOCAL_WORLD_SIZE": str(options.processes),
            }
        log = folder.parent / f"{folder.name}.log"
        process = context.Process(
            target=train, args=(arguments_of(folder, options), environment, log)
        )
        process.start()
        processes.append(process)
    several = options.processes > 1
    store = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False) if several else None
    return Training(processes, store)


def rows(folder: Path) -> list[dict[str, str]]:
    """The rows of the metrics, without speed and memory."""
    file = folder / "metrics.csv"
    if not file.exists():
        return []
    with file.open(newline="") as lines:
        return [{k: v for k, v in r.items() if k not in MEASURED} for r in csv.DictReader(lines)]


def kill_once(folder: Path, options: argparse.Namespace, saving: bool) -> Kill | None:
    """Start, wait for a random moment, and kill one process; None if the training ended before."""
    before = len(rows(folder))
    training = start(folder, options)
    part = folder / "checkpoints" / "last.ckpt.part"
    goal = before + random.randint(1, options.progress)
    while training.alive and len(rows(folder)) < goal:
        time.sleep(0.01)
    while saving and training.alive and not part.exists():
        pass
    rank = random.randrange(options.processes)
    if not saving:
        time.sleep(random.random() * 0.2)
    if not training.processes[rank].is_alive():
        return None
    training.processes[rank].kill()
    begin = time.monotonic()
    met = part.exists()
    while training.alive:
        time.sleep(0.01)
    ended = time.monotonic() - begin
    if training.processes[rank].exitcode != -signal.SIGKILL:
        return None
    step = max((int(row["step"]) for row in rows(folder)), default=0)
    names = sorted(path.name for path in (folder / "checkpoints").glob("*"))
    return Kill(rank, met, step, ended, names)


def same(one: Any, other: Any) -> bool:
    """Whether two values of checkpoints are equal, tensors bit by bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def lost(whole: Path, killed: Path) -> list[str]:
    """What differs between the training without a stop and the one that was killed."""
    first, second = (read_checkpoint(f / "checkpoints" / "last.ckpt") for f in (whole, killed))
    differing = [key for key in KEPT if not same(first.get(key), second.get(key))]
    best = [read_checkpoint(f / "checkpoints" / "best.ckpt") for f in (whole, killed)]
    if not same(best[0]["state_dict"], best[1]["state_dict"]):
        differing.append("best.ckpt")
    if rows(whole) != rows(killed):
        differing.append("metrics.csv")
    return differing


def report(
    options: argparse.Namespace, kills: list[Kill], starts: int, differing: list[str]
) -> str:
    lines = [
        [
            str(number),
            str(kill.rank),
            "yes" if kill.saving else "no",
            str(kill.step),
            f"{kill.ended:.1f} s",
            " ".join(kill.left),
        ]
        for number, kill in enumerate(kills, 1)
    ]
    head = [
        "",
        "rank",
        "while a checkpoint was written",
        "step",
        "all had ended after",
        "files left",
    ]
    return "\n".join(
        [
            "# kill -9 at random moments\n",
            f"{machine('cpu')}; {versions()}; {commit()}.\n"
            f"Tiny model (width 4, 64x64), {options.epochs} epochs of {options.batches} batches, "
            f"{options.processes} process(es), a checkpoint after every "
            f"update, seed {options.seed} of the moments. {starts} starts in one folder.\n",
            f"Different from the training without a stop: {', '.join(differing) or 'nothing'} "
            f"(compared: {', '.join(KEPT)} of last.ckpt, the weights of best.ckpt, metrics.csv "
            "without speed and memory).\n",
            table("Kills", head, lines),
        ]
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batches", type=int, default=18, help="of each epoch")
    parser.add_argument("--progress", type=int, default=4, help="most rows between two kills")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument(
        "--output", default="kill.md", help="file; a relative path is below benchmarks/results"
    )
    return parser.parse_args()


def main() -> None:
    options = arguments()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory(prefix="kill-") as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        if start(whole, options).failed:
            sys.exit((Path(folder) / "whole.log").read_text())
        kills: list[Kill] = []
        while len(kills) < options.kills:
            kill = kill_once(killed, options, saving=len(kills) % 2 == 1)
            if kill is None:
                sys.exit(f"the training ended after {len(kills)} kills: set more --epochs")
            kills.append(kill)
            print(f"kill {len(kills)}: {kill}", flush=True)
        if start(killed, options).failed:
            sys.exit((Path(folder) / "killed.log").read_text())
        differing = lost(whole, killed)
        starts = len(json.loads((killed / "run.json").read_text())["starts"])
    text = report(options, kills, starts, differing)
    (RESULTS / options.output).write_text(text)
    print(text)
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
