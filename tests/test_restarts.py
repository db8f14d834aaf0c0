"""Runs that are stopped, killed and started again, in processes of their own."""

import csv
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from test_distributed import TINY
from torch.distributed import TCPStore
from two_processes import train

TRAIN = [
    *TINY,
    "data.batch_size=1",
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=8",
    "trainer.log_every_n_steps=1",
    "model.accumulate_batches=2",
    "model.vgg={weights: random, width: 4}",
    "callbacks.preview=null",
]
MEASURED = ("health/images_per_second", "health/data_wait", "health/memory_mb")


class Training(NamedTuple):
    process: BaseProcess
    log: Path

    def finish(self, status: int = 0) -> str:
        self.process.join(500)
        said = self.log.read_text()
        assert self.process.exitcode == status, said
        return said


def launch(
    log: Path,
    *arguments: str,
    target: Callable[..., None] = train,
    **environment: str,
) -> Training:
    """A training in a process of its own, which is forked from one that has loaded the library."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["csa_inpaint.train", "csa_inpaint.methods.csa"])
    process = context.Process(target=target, args=([*TRAIN, *arguments], environment, log))
    process.start()
    return Training(process, log)


def start(folder: Path, *options: str, **settings: Any) -> Training:
    """A training in a folder; each start has a file for what it prints."""
    log = folder.parent / f"log_{time.monotonic_ns()}.txt"
    return launch(log, f"hydra.run.dir={folder}", *options, **settings)


def wait_for_rows(folder: Path, rows: int) -> None:
    """Wait until a training has logged so many rows."""
    file = folder / "metrics.csv"
    while not file.exists() or len(file.read_text().splitlines()) < rows:
        time.sleep(0.02)


def curve(folder: Path) -> list[dict[str, str]]:
    rows = csv.DictReader((folder / "metrics.csv").open())
    return [{k: v for k, v in row.items() if k not in MEASURED} for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    start(folder).finish()
    return folder


@pytest.fixture
def assert_same_run(whole: Path, assert_same_state: Callable[[Path, Path], None]) -> Any:
    def check(folder: Path) -> None:
        assert_same_state(whole / "checkpoints/last.ckpt", folder / "checkpoints/last.ckpt")
        assert_same_state(whole / "checkpoints/best.ckpt", folder / "checkpoints/best.ckpt")
        assert curve(folder) == curve(whole)
        assert [p.name for p in folder.parent.iterdir() if p.is_dir()] == [folder.name]

    return check


@pytest.fixture
def scontrol(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A search path whose ``scontrol`` notes its arguments in a file, and the file."""
    folder = tmp_path_factory.mktemp("bin")
    asked = folder / "asked"
    program = folder / "scontrol"
    program.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}", asked


@pytest.mark.slow
def test_preempted_training_goes_on_exactly(
    tmp_path: Path, scontrol: tuple[str, Path], assert_same_run: Callable[[Path], None]
) -> None:
    path, asked = scontrol
    slurm = {"SLURM_JOB_ID": "5", "SLURM_JOB_NAME": "bash", "PATH": path}
    folder = tmp_path / "run"
    stops = (signal.SIGTERM, 4, {}), (signal.SIGUSR1, 9, slurm), (signal.SIGUSR1, 14, {})
    for number, rows, environment in stops:
        training = start(folder, "checkpoint=auto", **environment)
        wait_for_rows(folder, rows)
        os.kill(training.process.pid or 0, number)
        said = training.finish(status=75)
        assert f"Saved {folder}/checkpoints/last.ckpt. Continue with:" in said
        assert "\x1b" not in said
        assert "\r" not in said
    assert asked.read_text() == "requeue 5\n"  # Slurm's job asks, but not after SIGTERM
    # A requeued job starts with the same command line.
    again = {**slurm, "SLURM_RESTART_COUNT": "1"}
    start(folder, "init_from=was_used_before.ckpt", **again).finish()
    assert_same_run(folder)


@pytest.mark.slow
def test_training_is_saved_by_time_within_an_epoch(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "run"
    training = start(folder, "every_minutes=1e-9", "trainer.max_epochs=1")
    while not (folder / "checkpoints/last-1.ckpt").exists():
        time.sleep(0.02)
    wrote = len(curve(folder))
    training.process.kill()
    training.finish(status=-signal.SIGKILL)
    assert wrote < 8
    start(folder, "checkpoint=last").finish()
    assert curve(folder) == curve(whole)


@pytest.mark.slow
def test_signal_to_one_process_stops_all_after_the_same_update(tmp_path: Path) -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {"TORCHELASTIC_RUN_ID": "a", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    shared |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    options = ("strategy=ddp", "trainer.devices=2", f"output_root={tmp_path}")
    ranks = []
    for rank in ("0", "1"):  # without hydra.run.dir: the processes agree on a folder
        own = {**shared, "RANK": rank, "LOCAL_RANK": rank}
        ranks.append(launch(tmp_path / f"{rank}.txt", *options, **own))
    while not (folders := list(tmp_path.glob("photos/*"))):
        time.sleep(0.02)
    wait_for_rows(folders[0], 4)
    os.kill(ranks[1].process.pid or 0, signal.SIGUSR1)
    for rank in ranks:
        rank.finish(status=75)
    (folder,) = tmp_path.glob("photos/*")
    assert torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["window"]["batches"] == 0
    names = {path.name for path in folder.iterdir()}
    assert names == {
        ".hydra", ".lock", "checkpoints", "config.yaml", "hparams.yaml", "metrics.csv", "run.json",
        "train.log",
    }  # fmt: skip


@pytest.mark.slow
def test_nothing_is_lost_by_kills(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "benchmarks/kill.py"
    options = ["--kills=3", "--processes=1", "--epochs=3", "--batches=8", "--progress=4"]
    command = [sys.executable, str(script), *options, f"--output={tmp_path / 'kill.md'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "kill.md").read_text()
    assert "Different from the training without a stop: nothing" in text
    assert "4 starts in one folder" in text


def limited(limit: int, arguments: list[str], environment: dict[str, str], log: Path) -> None:
    """Train where no file may become larger, which a full disk does to a checkpoint."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    train(arguments, environment, log)


@pytest.mark.slow
def test_full_disk_is_named_and_leaves_a_checkpoint(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "run"
    start(folder, "trainer.max_epochs=1").finish()
    size = (folder / "checkpoints/last.ckpt").stat().st_size
    training = start(folder, "checkpoint=last", target=partial(limited, size // 2))
    said = training.finish(status=1)
    assert "OSError: [Errno 27] File too large:" in said
    assert f"There is no room left for {folder} (" in said
    last = folder / "checkpoints/last.ckpt"
    assert f"{last} is whole. Make room and continue with:" in said
    assert f"checkpoint={last}" in said
    assert torch.load(last, weights_only=True)["epoch"] == 0
    start(folder, "checkpoint=last").finish()
    assert curve(folder) == curve(whole)
