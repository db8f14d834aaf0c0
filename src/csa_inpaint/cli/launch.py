"""The processes of a run: as many as torchrun or Slurm started, or one for a while."""

import copy
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from omegaconf import DictConfig

from csa_inpaint.cli.job import current_job, in_srun, in_torchrun

FOLLOW = "auto"
REQUIRE = "launcher"
# Variables by which torchrun, Slurm and Lightning tell a process of its place among others.
PLACE = ("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
PLACE_PREFIXES = ("SLURM_", "TORCHELASTIC_", "MASTER_")
# Lightning starts the other processes of a sweep's job with the command line of the whole sweep.
# This variable holds the arguments of the job.
SWEEP_JOB = "CSA_INPAINT_SWEEP_JOB"


class Launch(NamedTuple):
    """What started the processes of a run, and how many there are."""

    launcher: str
    devices: int  # processes on each node, one for each device
    num_nodes: int


def launch() -> Launch | None:
    """What the variables of torchrun and Slurm say; None for a process that neither started."""
    environment = os.environ
    if in_torchrun():
        on_node = int(environment["LOCAL_WORLD_SIZE"])
        return Launch("torchrun", on_node, int(environment["WORLD_SIZE"]) // on_node)
    if in_srun():
        nodes = int(environment["SLURM_NNODES"])
        return Launch("Slurm", int(environment["SLURM_NTASKS"]) // nodes, nodes)
    return None


def following_launcher(trainer: DictConfig) -> DictConfig:
    """A Trainer's configuration whose ``devices`` and ``num_nodes`` are those of the launcher.

    ``auto`` and ``launcher`` follow the launcher. Without a launcher ``num_nodes=auto`` is one
    node, ``num_nodes=launcher`` is an error, and the Trainer itself knows what ``devices=auto`` is.

    Args:
        trainer: the configuration of the Trainer.

    Raises:
        ValueError: the configuration says another number than the launcher, or it requires a
            launcher, and there is none.
    """
    followed = copy.deepcopy(trainer)
    started = launch()
    if started is None:
        if trainer.num_nodes == REQUIRE:
            raise ValueError(
                "trainer.num_nodes=launcher (strategy=ddp_multinode), but neither srun nor "
                "torchrun started this process: submit scripts/train.sbatch, start with torchrun "
                "--nnodes=N --nproc-per-node=M -m csa_inpaint.train, or set strategy=ddp to train "
                "on this machine"
            )
        if trainer.num_nodes == FOLLOW:
            followed.num_nodes = 1
        return followed
    for key in ("devices", "num_nodes"):
        number = getattr(started, key)
        if trainer[key] in (FOLLOW, REQUIRE):
            followed[key] = number
        elif trainer[key] != number:
            raise ValueError(
                f"trainer.{key}={trainer[key]}, but {started.launcher} started "
                f"{started.devices} processes on each of {started.num_nodes} nodes: leave out "
                f"trainer.{key}, which then follows {started.launcher}, or start as many processes "
                f"as trainer.{key} says"
            )
    return followed


def hand_on_job(arguments: Sequence[str]) -> None:
    """Let the processes that Lightning starts run this job of a sweep alone.

    Args:
        arguments: of a command line that runs the job.
    """
    os.environ[SWEEP_JOB] = json.dumps(list(arguments))


def own_arguments(arguments: list[str]) -> list[str]:
    """The arguments of this process: of the command line, or of the one job of a sweep."""
    job: list[str] = json.loads(os.environ[SWEEP_JOB]) if SWEEP_JOB in os.environ else arguments
    return job if current_job().rank > 0 else arguments


@contextmanager
def one_process() -> Iterator[None]:
    """Let a Trainer work in this process alone, whatever launcher started the process."""
    hidden = {key: os.environ[key] for key in os.environ if _tells_place(key)}
    for key in hidden:
        del os.environ[key]
    try:
        yield
    finally:
        os.environ.update(hidden)


def _tells_place(key: str) -> bool:
    return key in PLACE or key.startswith(PLACE_PREFIXES)
