"""Trainings on a real Slurm with two nodes: sbatch with srun, and a sweep through submitit."""

import csv
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from slurm import TINY, Slurm

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts/train.sbatch"
LIMIT = 600  # seconds; a machine that does other work too is slow


def test_two_nodes_train_one_model(slurm: Slurm, tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    job = slurm.submit(
        f"--output={log}",
        "--cpus-per-task=1",
        SCRIPT,
        *TINY,
        f"hydra.run.dir={tmp_path / 'run'}",
        "trainer.max_epochs=1",
        "trainer.limit_train_batches=3",
    )
    assert slurm.wait(job, LIMIT) == "COMPLETED", log.read_text()
    text = log.read_text()
    assert "distributed_backend=gloo" in text
    assert "GLOBAL_RANK: 1, MEMBER: 2/2" in text
    assert text.count("Run folder:") == 1
    assert "Effective batch: 4 = 2 nodes × 1 device × batch 2" in text
    assert (tmp_path / "run/checkpoints/last.ckpt").is_file()


def test_sweep_is_a_job_for_each_run_and_one_table(slurm: Slurm, tmp_path: Path) -> None:
    if find_spec("hydra_plugins.hydra_submitit_launcher") is None:
        pytest.skip("no hydra-submitit-launcher: pip install 'csa-inpaint[slurm]'")
    command = [sys.executable, "-m", "csa_inpaint.train", "-m", "hydra/launcher=slurm"]
    # One job has both nodes, the other one waits for them.
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
