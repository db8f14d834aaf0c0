"""Two "nodes" on this machine, each with the processes that torchrun starts on it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

TINY = (
    "model.width=4",
    "model.depth=4",
    "data.size=64",
    "data.batch_size=2",
    "data.num_workers=0",
    "trainer.accelerator=cpu",
    "trainer.limit_train_batches=3",
    "trainer.limit_val_batches=1",
    "strategy=ddp_multinode",
)
LIMIT = 600  # seconds; a machine that does other work too is slow


def start_nodes(folder: Path, *arguments: str) -> list[subprocess.Popen[str]]:
    """``torchrun`` as a user calls it on each of two nodes; the output goes to ``node_<n>.log``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    command += ["--max-restarts=2", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}"]
    command += ["--local-addr=127.0.0.1", "-m", "csa_inpaint.train", *TINY, *arguments]
    command += ["trainer.max_epochs=6", "checkpoint=auto"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    nodes = []
    for number in range(2):
        with (folder / f"node_{number}.log").open("w") as log:
            nodes.append(
                subprocess.Popen(command, env=environment, stdout=log, stderr=log, text=True)
            )
    return nodes


def logs(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.glob("node_*.log")))


def wait_for(condition: Callable[[], bool], folder: Path) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, logs(folder)
        time.sleep(0.2)


def children(process: int) -> list[int]:
    """The processes that a process started."""
    paths = Path(f"/proc/{process}/task").glob("*/children")
    return [int(number) for path in paths for number in path.read_text().split()]


def weights(run: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(run / "checkpoints/last.ckpt", weights_only=True)[
        "state_dict"
    ]
    return state


@pytest.mark.slow
def test_two_nodes_go_on_after_a_process_died(tmp_path: Path) -> None:
    run = tmp_path / "run"
    nodes = start_nodes(tmp_path, f"hydra.run.dir={run}")
    try:
        saved = (run / "checkpoints/last.ckpt").exists
        wait_for(lambda: saved() or nodes[0].poll() is not None, tmp_path)
        (worker,) = children(nodes[1].pid)
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: all(node.poll() is not None for node in nodes), tmp_path)
    finally:
        for node in nodes:
            node.kill()
    text = logs(tmp_path)
    assert [node.returncode for node in nodes] == [0, 0], text
    assert "Effective batch: 4 = 2 nodes × 1 device × batch 2" in text
    assert "exitcode: -9" in text
    assert "Continuing from" in text
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["epoch"] == 5

    whole = tmp_path / "whole"
    nodes = start_nodes(tmp_path, f"hydra.run.dir={whole}")
    assert [node.wait(LIMIT) for node in nodes] == [0, 0], logs(tmp_path)
    resumed, never_stopped = weights(run), weights(whole)
    assert resumed.keys() == never_stopped.keys()
    for name, value in never_stopped.items():
        assert torch.equal(resumed[name], value), name
