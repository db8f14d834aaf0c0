"""Devices and nodes of a Trainer follow the launcher that started the processes."""

import os
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from csa_inpaint.cli.launch import (
    SWEEP_JOB,
    Launch,
    following_launcher,
    hand_on_job,
    launch,
    one_process,
    own_arguments,
)

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6"}
SLURM = {"SLURM_JOB_NAME": "csa_inpaint", "SLURM_NTASKS": "8", "SLURM_NNODES": "2"}


@pytest.fixture
def started_by(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the variables of a launcher, and no others."""
    for name in {*TORCHRUN, *SLURM, "RANK", "MASTER_PORT"}:
        monkeypatch.delenv(name, raising=False)

    def start(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return start


def trainer(**settings: Any) -> DictConfig:
    return OmegaConf.create({"devices": "auto", "num_nodes": "auto", **settings})


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (TORCHRUN, Launch("torchrun", 2, 3)),
        (SLURM, Launch("Slurm", 4, 2)),
        (SLURM | TORCHRUN, Launch("torchrun", 2, 3)),  # torchrun in a job of Slurm
        (SLURM | {"SLURM_JOB_NAME": "interactive"}, None),
        ({}, None),
    ],
)
def test_launch_reads_the_launchers_variables(
    started_by: Any, variables: dict[str, str], expected: Launch | None
) -> None:
    started_by(variables)
    assert launch() == expected


@pytest.mark.parametrize(
    ("variables", "devices", "nodes"), [(TORCHRUN, 2, 3), (SLURM, 4, 2), ({}, "auto", 1)]
)
def test_trainer_follows_the_launcher(
    started_by: Any, variables: dict[str, str], devices: int | str, nodes: int
) -> None:
    started_by(variables)
    given = trainer(precision="64-true")
    followed = following_launcher(given)
    assert followed == {"devices": devices, "num_nodes": nodes, "precision": "64-true"}
    assert given == trainer(precision="64-true")  # a repeated run follows its own launcher


def test_trainer_keeps_numbers_that_agree(started_by: Any) -> None:
    started_by(SLURM)
    agreed = trainer(devices=4, num_nodes=2)
    assert following_launcher(agreed) == agreed
    started_by(TORCHRUN)  # which goes before Slurm
    with pytest.raises(ValueError, match=r"trainer.devices=4, but torchrun started 2 processes"):
        following_launcher(agreed)


@pytest.mark.parametrize(("key", "number"), [("devices", 8), ("num_nodes", 1)])
def test_trainer_refuses_other_numbers_than_the_launchers(
    started_by: Any, key: str, number: int
) -> None:
    started_by(SLURM)
    with pytest.raises(
        ValueError,
        match=rf"trainer.{key}={number}, but Slurm started 4 processes on each of 2 nodes: leave "
        rf"out trainer.{key}, which then follows Slurm",
    ):
        following_launcher(trainer(**{key: number}))


def test_trainer_may_require_a_launcher(started_by: Any) -> None:
    with pytest.raises(ValueError, match=r"strategy=ddp_multinode\), but neither srun"):
        following_launcher(trainer(num_nodes="launcher"))
    started_by(SLURM)
    assert following_launcher(trainer(num_nodes="launcher")).num_nodes == 2


def test_processes_of_lightning_run_one_job_of_a_sweep(
    started_by: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = ["-m", "seed=0,1"]
    assert own_arguments(sweep) == sweep
    monkeypatch.setenv(SWEEP_JOB, "[]")  # so that it is removed again
    hand_on_job(["seed=1", "hydra.run.dir=runs/1"])
    assert own_arguments(sweep) == sweep  # rank 0 goes on with the sweep
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert own_arguments(sweep) == ["seed=1", "hydra.run.dir=runs/1"]


def test_one_process_hides_the_launcher_for_a_while(started_by: Any) -> None:
    started_by(TORCHRUN | SLURM | {"RANK": "0", "MASTER_PORT": "1"})
    before = dict(os.environ)
    with one_process():
        assert launch() is None
        assert not {"RANK", "MASTER_PORT", "WORLD_SIZE"} & os.environ.keys()
        assert os.environ["PATH"] == before["PATH"]
    assert dict(os.environ) == before


def test_trainer_without_a_launcher_keeps_what_it_was_given(started_by: Any) -> None:
    assert following_launcher(trainer(devices=2, num_nodes=3)) == trainer(devices=2, num_nodes=3)
