"""Training in two real processes."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TINY = [
    "model.width=4",
    "model.depth=4",
    "data.size=64",
    "data.num_workers=0",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "trainer.limit_val_batches=1",
]
TWO_PROCESSES = ["strategy=ddp", "trainer.devices=2"]


def train(folder: Path, *arguments: str) -> None:
    """Run a short training as a user runs it."""
    command = [sys.executable, "-m", "csa_inpaint.train", *arguments]
    done = subprocess.run(
        [*command, f"output_root={folder}", *TINY],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def trained(folder: Path, *overrides: str) -> dict[str, torch.Tensor]:
    """The weights after a short training."""
    train(folder, *overrides)
    (checkpoint,) = folder.rglob("last.ckpt")
    return torch.load(checkpoint, weights_only=True)["state_dict"]


@pytest.mark.slow
def test_two_processes_take_the_step_of_one_with_twice_the_batch(tmp_path):
    # The consistency loss is a mean over the hole cells of all processes, and the relativistic
    # objective compares with the mean over all processes. Adam would enlarge rounding.
    same = ["adversarial_weight=0.1", "trainer.limit_train_batches=3", "mask=rectangle"]
    same += ["model.loss_weights.consistency=1", "model.betas=null", "model.learning_rate=0.1"]
    same += ["+model.optimizer={_target_:torch.optim.SGD}", "adversary.patch.learning_rate=0.1"]
    one = trained(tmp_path / "one", *same, "data.batch_size=2", "trainer.devices=1")
    two = trained(tmp_path / "two", *same, "data.batch_size=1", *TWO_PROCESSES)
    assert one.keys() == two.keys()
    for name, value in one.items():
        if value.dim() == 4:
            assert torch.linalg.vector_norm(two[name] - value) < 2e-3 * value.norm(), name


@pytest.mark.slow
def test_adversaries_train_in_two_processes(tmp_path):
    weights = trained(
        tmp_path, *TWO_PROCESSES, "data.batch_size=1", "trainer.limit_train_batches=2"
    )
    assert any(name.startswith("discriminators.patch.") for name in weights)
    assert all(torch.isfinite(value).all() for value in weights.values())
    (metrics,) = tmp_path.rglob("metrics.csv")
    assert "health/grad_norm/patch" in metrics.read_text()


@pytest.mark.slow
def test_default_strategy_trains_on_two_devices(tmp_path):
    weights = trained(
        tmp_path, "trainer.devices=2", "data.batch_size=1", "trainer.limit_train_batches=2"
    )
    assert any(name.startswith("discriminators.patch.") for name in weights)


@pytest.mark.slow
def test_sweep_scores_what_two_processes_trained(tmp_path):
    short = ["data.batch_size=1", "trainer.limit_train_batches=1", "callbacks.preview=null"]
    train(tmp_path, "-m", "seed=0,1", *TWO_PROCESSES, *short)  # no name: the folder is the data's
    (table,) = (tmp_path / "photos").glob("sweep_*/table.csv")
    rows = list(csv.DictReader(table.open()))
    assert [row["variant"] for row in rows] == ["seed=0", "seed=1"]
    assert [row["error"] for row in rows] == ["", ""]
    assert rows[0]["psnr"] != rows[1]["psnr"]
    assert len(list(table.parent.glob("*/result.json"))) == 2
