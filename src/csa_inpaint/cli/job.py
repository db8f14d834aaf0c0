"""What started this process: Slurm, torchrun, Lightning or a shell."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

PATIENCE = timedelta(minutes=5)  # for the processes of one job to start
FAREWELL = timedelta(minutes=1)  # for the other processes to learn of an error
_decisions = count()
STORE_OFFSET = 5000  # ports between the store of `agreed` and the port that Lightning uses


class Job(NamedTuple):
    """The launch that a process belongs to."""

    name: str | None
    """The same for all processes and restarts of a job; None for a process of a shell."""
    rank: int
    processes: int
    """Processes that a launcher started side by side; those that Lightning starts do not count."""
    restarts: int
    """How often the launcher started the job again."""


def current_job() -> Job:
    """The launch that this process belongs to, as the environment tells it."""
    environment = os.environ
    restarts = sum(
        int(environment.get(key) or 0)
        for key in ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT")
    )
    name = None
    if "SLURM_JOB_ID" in environment:
        name = f"slurm {environment['SLURM_JOB_ID']}.{environment.get('SLURM_STEP_ID', 'batch')}"
    elif in_torchrun():
        address = f"{environment['MASTER_ADDR']}:{environment['MASTER_PORT']}"
        name = f"torchrun {environment['TORCHELASTIC_RUN_ID']} {address}"
    if in_torchrun():
        return Job(name, int(environment["RANK"]), int(environment["WORLD_SIZE"]), restarts)
    if in_srun():
        tasks = int(environment["SLURM_NTASKS"])
        return Job(name, int(environment["SLURM_PROCID"]), tasks, restarts)
    return Job(name, int(environment.get("LOCAL_RANK", 0)), 1, restarts)


def agreed(key: str, decide: Callable[[], str | None]) -> str | None:
    """What rank 0 decides, on every process of the job.

    Every process must make the same calls in the same order. Processes of torchrun share the store
    of its agent; for the tasks of srun rank 0 opens a store; processes that Lightning starts read
    the environment of the process that started them.

    Args:
        key: name of the decision, another one for each.
        decide: only rank 0 calls this function.

    Raises:
        RuntimeError: the decision failed on rank 0, on the other ranks.
    """
    job = current_job()
    variable = f"CSA_INPAINT_{key.upper()}"
    # The store of an agent outlives a restart, and the jobs of a sweep decide one after the other.
    start = _start() if job.processes > 1 else 0
    place = f"csa_inpaint/{start}/{next(_decisions)}/{key}"
    if job.rank > 0:
        if job.processes == 1:
            return _value(os.environ[variable])
        message = _store().get(place).decode()
        _store().set(f"{place}/{job.rank}", "read")
        return _value(message)
    try:
        value = decide()
    except Exception as error:
        if job.processes > 1:
            _store().set(place, json.dumps({"error": str(error)}))
            with suppress(RuntimeError):  # the store ends with this process
                _store().wait([f"{place}/{rank}" for rank in range(1, job.processes)], FAREWELL)
        raise
    message = json.dumps({"value": value})
    os.environ[variable] = message
    if job.processes > 1:
        _store().set(place, message)
    return value


def requeue() -> None:
    """Ask Slurm to put this job into its queue again; Slurm then ends all processes of the job.

    Raises:
        RuntimeError: Slurm refused.
    """
    job = os.environ["SLURM_JOB_ID"]
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"scontrol requeue {job} failed: {done.stderr.strip()}. Submit the job again; it was "
            "saved"
        )


def in_slurm() -> bool:
    """Whether Slurm runs this process, in a batch job or with srun."""
    return "SLURM_JOB_ID" in os.environ


def in_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def in_srun() -> bool:
    """Whether this process is a task of srun."""
    # Lightning tells an interactive shell of Slurm by the same names.
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return "SLURM_NTASKS" in os.environ and not interactive


def _value(message: str) -> str | None:
    answer: dict[str, Any] = json.loads(message)
    if "error" in answer:
        raise RuntimeError(f"rank 0 failed: {answer['error']}")
    value: str | None = answer["value"]
    return value


@cache
def _start() -> int:
    """The number of this start of the job in the store of its processes, the same on all of them.

    Each node of torchrun counts the restarts after failures of its own processes, so the numbers of
    the nodes differ. PyTorch's processes meet under that number and would wait for each other for
    ever, so this function writes the common number in its place.
    """
    start = _common_start()
    if in_torchrun():
        os.environ["TORCHELASTIC_RESTART_COUNT"] = str(start - 1)
    return start


def _common_start() -> int:
    store, rank = _store(), current_job().rank
    if rank == 0:
        return int(store.add("csa_inpaint/starts", 1))
    last_seen = f"csa_inpaint/starts_seen/{rank}"
    seen = store.add(last_seen, 0)
    end = time.monotonic() + PATIENCE.total_seconds()
    while (start := store.add("csa_inpaint/starts", 0)) <= seen:
        if time.monotonic() > end:
            raise RuntimeError(f"rank 0 of the job did not start within {PATIENCE}")
        time.sleep(0.1)
    store.add(last_seen, start - seen)
    return int(start)


@cache
def _store() -> "TCPStore":
    """The store that the processes of a job share, for as long as this process lives."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # slow to import

    if in_torchrun():
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return TCPStore(address, port, is_master=False, timeout=PATIENCE)
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment  # slow to import

    slurm = SLURMEnvironment(auto_requeue=False)
    return TCPStore(
        slurm.main_address,
        slurm.main_port - STORE_OFFSET,
        is_master=slurm.global_rank() == 0,
        wait_for_workers=False,
        timeout=PATIENCE,
    )
