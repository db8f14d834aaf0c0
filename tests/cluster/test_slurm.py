"""Trainings on a real Slurm with two nodes: sbatch with srun, and a sweep through submitit."""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from slurm import TINY, Slurm, wait_for

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts/train.sbatch"
LIMIT = 600  # seconds; a machine that does other work too is slow
EPOCHS = 8  # so many that a signal comes before the end


def submit(slurm: Slurm, folder: Path, *options: str, epochs: int = EPOCHS) -> int:
    """Submit a training on two nodes; its log is ``job.log``, its runs are in ``runs/``."""
    folder.mkdir(exist_ok=True)
    return slurm.submit(
        f"--output={folder / 'job.log'}",
        "--cpus-per-task=1",
        *options,
        SCRIPT,
        *TINY,
        f"output_root={folder / 'runs'}",
        f"trainer.max_epochs={epochs}",
        "trainer.limit_train_batches=3",
        "callbacks.preview=null",
    )


def run_of(folder: Path) -> Path:
    """The one folder of a job's run."""
    (run,) = (folder / "runs/photos").iterdir()
    return run


def state_of(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(run_of(folder) / "checkpoints/last.ckpt", weights_only=True)
    return state


@pytest.fixture(scope="module")
def never_stopped(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training on two nodes that nothing stopped."""
    folder = tmp_path_factory.mktemp("never_stopped")
    job = submit(slurm, folder)
    assert slurm.wait(job, LIMIT) == "COMPLETED", (folder / "job.log").read_text()
    return folder


def test_two_nodes_train_one_model(never_stopped: Path) -> None:
    text = (never_stopped / "job.log").read_text()
    assert "distributed_backend=gloo" in text
    assert "GLOBAL_RANK: 1, MEMBER: 2/2" in text
    assert text.count("Run folder:") == 1
    assert "Effective batch: 4 = 2 nodes × 1 device × batch 2" in text
    assert state_of(never_stopped)["epoch"] == EPOCHS - 1


@pytest.mark.parametrize(
    "stop", [["scancel", "--signal=USR1"], ["scontrol", "requeue"]], ids=["signal", "requeue"]
)
def test_job_goes_on_as_if_nothing_had_stopped_it(
    slurm: Slurm, never_stopped: Path, tmp_path: Path, stop: list[str]
) -> None:
    job = submit(slurm, tmp_path)
    wait_for(lambda: any(tmp_path.rglob("last.ckpt")), "a checkpoint", LIMIT)
    slurm.run(*stop, str(job))
    slurm.wait_for_requeue(job, LIMIT)
    assert state_of(tmp_path)["epoch"] < EPOCHS - 1
    log = tmp_path / "job.log"
    assert slurm.wait(job, LIMIT) == "COMPLETED", log.read_text()
    assert "Continuing from" in log.read_text()
    resumed, expected = (state_of(each)["state_dict"] for each in (tmp_path, never_stopped))
    assert resumed.keys() == expected.keys()
    assert all(torch.equal(resumed[name], value) for name, value in expected.items())


def test_job_is_requeued_before_its_time_is_over(slurm: Slurm, tmp_path: Path) -> None:
    job = submit(slurm, tmp_path, "--signal=USR1@10", epochs=10_000)
    wait_for(lambda: any(tmp_path.rglob("last.ckpt")), "a checkpoint", LIMIT)
    hours, minutes, _ = slurm.field(job, "RunTime").split(":")
    passed = 60 * int(hours) + int(minutes)  # a whole number of minutes, as Slurm's limits are
    slurm.run("scontrol", "update", f"JobId={job}", f"TimeLimit={passed + 1}")
    slurm.wait_for_requeue(job, LIMIT)
    slurm.run("scontrol", "update", f"JobId={job}", "TimeLimit=60")
    log = tmp_path / "job.log"
    wait_for(lambda: "Continuing from" in log.read_text(), "the job to go on", LIMIT)
    slurm.run("scancel", str(job))
    assert slurm.wait(job, LIMIT) == "CANCELLED"
    assert slurm.field(job, "Restarts") == "1"  # a job that its user ends stays ended


def test_sweep_is_a_job_for_each_run_and_one_table(slurm: Slurm, tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="pip install 'csa-inpaint[slurm]'")
    command = [sys.executable, "-m", "csa_inpaint.train", "-m", "hydra/launcher=slurm"]
    # Each job has a process on both nodes.
    command += ["hydra.launcher.nodes=2", "hydra.launcher.cpus_per_task=1", "strategy=ddp"]
    command += [f"output_root={tmp_path}", *TINY, "adversary=[],[patch]"]
    command += ["trainer.max_epochs=1", "trainer.limit_train_batches=1"]
    done = subprocess.run(
        command, env=slurm.environment, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (table,) = tmp_path.rglob("table.csv")
    without, patch = csv.DictReader(table.open())
    assert (without["variant"], patch["variant"]) == ("adversary=[]", "adversary=[patch]")
    for row in (without, patch):
        assert row["error"] == ""
        assert float(row["psnr"]) > 0
    logs = list(table.parent.glob("slurm/*/*_log.err"))
    assert len(logs) == 4  # two jobs of two processes
