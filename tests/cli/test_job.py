"""What a process knows about its launch, and what its processes agree on."""

import multiprocessing
import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from torch.distributed import TCPStore

from csa_inpaint.cli.job import agreed, current_job, in_slurm, requeue

LAUNCHERS = ("SLURM", "TORCHELASTIC", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER")
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_RESTART_COUNT": "2",
    "RANK": "3",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "4",
    "MASTER_ADDR": "node0",
    "MASTER_PORT": "29500",
}
SRUN = {
    "SLURM_JOB_ID": "12",
    "SLURM_STEP_ID": "1",
    "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_PROCID": "3",
    "SLURM_NODEID": "0",
    "SLURM_LOCALID": "3",
    "SLURM_JOB_NAME": "train",
    "SLURM_RESTART_COUNT": "1",
}


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the environment of a launcher, and of no other one."""

    def launch(environment: Mapping[str, str]) -> None:
        for name in [name for name in os.environ if name.startswith(LAUNCHERS)]:
            monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return launch


def test_job_is_told_by_the_launcher(launched: Any) -> None:
    launched({})
    assert current_job() == (None, 0, 1, 0)
    assert not in_slurm()
    launched({"LOCAL_RANK": "1"})  # Lightning started this process
    assert current_job() == (None, 1, 1, 0)
    launched(TORCHRUN)
    assert current_job() == ("torchrun none node0:29500", 3, 4, 2)
    launched(SRUN)
    assert current_job() == ("slurm 12.1", 3, 4, 1)
    launched({**SRUN, **TORCHRUN})  # torchrun on each node, started by srun
    assert current_job() == ("slurm 12.1", 3, 4, 3)
    launched({**SRUN, "SLURM_JOB_NAME": "bash", "SLURM_PROCID": "0"})  # a shell in a job
    assert current_job()[1:3] == (0, 1)


def test_agreement_of_one_process_is_its_own(launched: Any) -> None:
    launched({})
    assert agreed("folder", lambda: "a") == "a"
    with pytest.raises(ValueError, match="no"):
        agreed("folder", fail)


def test_agreement_reaches_the_processes_of_lightning(launched: Any) -> None:
    launched({})
    agreed("folder", lambda: "a")
    agreed("checkpoint", lambda: None)
    child = {name: os.environ[name] for name in os.environ if name.startswith("CSA_INPAINT")}
    launched({**child, "LOCAL_RANK": "1"})
    assert agreed("folder", fail) == "a"
    assert agreed("checkpoint", fail) is None


def fail() -> str:
    raise ValueError("no")


def process(environment: dict[str, str], fails: bool, answers: Any, end: Any) -> None:
    """Take part in two agreements, and train until the end."""
    os.environ.update(environment)
    rank = current_job().rank
    try:
        first = agreed("folder", lambda: f"of {rank} in {environment.get('START')}")
        second = agreed("checkpoint", fail if fails else lambda: None)
        answers.put((first, second))
        end.wait(60)
    except (ValueError, RuntimeError) as error:
        answers.put(str(error))


def answers_of(environments: list[dict[str, str]], fails: bool = False) -> list[Any]:
    context = multiprocessing.get_context("fork")
    answers, end = context.Queue(), context.Event()
    processes = [
        context.Process(target=process, args=(environment, fails, answers, end))
        for environment in environments
    ]
    for each in processes:
        each.start()
    found = [answers.get(timeout=120) for _ in processes]
    end.set()
    for each in processes:
        each.join()
    return found


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_agreement_of_srun(launched: Any) -> None:
    port = free_port() + 5000  # the port of Lightning's exchange; the store is below
    if port > 65535:
        port -= 10000
    shared = {**SRUN, "SLURM_NTASKS": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    launched({})
    ranks = [{**shared, "SLURM_PROCID": str(rank)} for rank in (2, 0, 1)]
    assert answers_of(ranks) == [("of 0 in None", None)] * 3
    failed = [{**rank, "MASTER_PORT": str(port - 7)} for rank in ranks]
    assert sorted(answers_of(failed, fails=True)) == ["no", *["rank 0 failed: no"] * 2]


def test_agreement_of_torchrun_is_made_anew_after_a_restart(launched: Any) -> None:
    port = free_port()
    agent = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    shared = {**TORCHRUN, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    launched({})
    for start in ("0", "1"):
        # Only the node whose process failed counts the restart.
        ranks = [{**shared, "RANK": "1", "TORCHELASTIC_RESTART_COUNT": start, "START": start}]
        ranks += [{**shared, "RANK": "0", "TORCHELASTIC_RESTART_COUNT": "0", "START": start}]
        assert answers_of(ranks) == [(f"of 0 in {start}", None)] * 2
    del agent


@pytest.mark.parametrize("accepted", [True, False])
def test_requeue_asks_slurm(
    accepted: bool, launched: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    launched(SRUN)
    asked: list[list[str]] = []

    def scontrol(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0 if accepted else 1, "", "Invalid job id\n")

    monkeypatch.setattr(subprocess, "run", scontrol)
    if accepted:
        requeue()
    else:
        with pytest.raises(RuntimeError, match=r"requeue 12 failed: Invalid job id\. Submit"):
            requeue()
    assert asked == [["scontrol", "requeue", "12"]]
