"""The processes of a run: as many as torchrun or Slurm started."""

import copy
import os
from collections.abc import Mapping
from typing import NamedTuple

from omegaconf import DictConfig

FOLLOW = "auto"


class Launch(NamedTuple):
    """What started the processes of a run, and how many there are."""

    launcher: str
    devices: int  # processes on each node, one for each device
    num_nodes: int


def launch(environment: Mapping[str, str]) -> Launch | None:
    """What the variables of torchrun and Slurm say; None for a process that neither started."""
    if "TORCHELASTIC_RUN_ID" in environment:
        on_node = int(environment["LOCAL_WORLD_SIZE"])
        return Launch("torchrun", on_node, int(environment["WORLD_SIZE"]) // on_node)
    # Lightning ignores Slurm in a job of one of these names: its user starts the processes.
    interactive = environment.get("SLURM_JOB_NAME") in ("bash", "interactive")
    if "SLURM_NTASKS" in environment and not interactive:
        nodes = int(environment["SLURM_NNODES"])
        return Launch("Slurm", int(environment["SLURM_NTASKS"]) // nodes, nodes)
    return None


def following_launcher(trainer: DictConfig) -> DictConfig:
    """A Trainer's configuration whose ``devices`` and ``num_nodes`` are those of the launcher.

    Only ``auto`` follows the launcher. Without a launcher there is one node, and the Trainer itself
    knows what ``devices=auto`` means.

    Args:
        trainer: the configuration of the Trainer.

    Raises:
        ValueError: the configuration says another number than the launcher.
    """
    followed = copy.deepcopy(trainer)
    started = launch(os.environ)
    if started is None:
        if trainer.num_nodes == FOLLOW:
            followed.num_nodes = 1
        return followed
    for key in ("devices", "num_nodes"):
        number = getattr(started, key)
        if trainer[key] == FOLLOW:
            followed[key] = number
        elif trainer[key] != number:
            raise ValueError(
                f"trainer.{key}={trainer[key]}, but {started.launcher} started "
                f"{started.devices} processes on each of {started.num_nodes} nodes: leave out "
                f"trainer.{key}, which then follows {started.launcher}, or start as many processes "
                f"as trainer.{key} says"
            )
    return followed
