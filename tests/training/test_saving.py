"""Checkpoint files are whole or not there."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from csa_inpaint.training.saving import AtomicCheckpointIO


def state(number: int) -> dict[str, Any]:
    return {"number": number, "weights": torch.full((1000,), float(number))}


def number_in(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["number"])


def test_checkpoints_keep_the_newest_versions_of_last(tmp_path: Path) -> None:
    io = AtomicCheckpointIO(keep=3)
    for number in range(5):
        for name in ("last.ckpt", "best.ckpt"):
            io.save_checkpoint(state(number), tmp_path / "checkpoints" / name)
    kept = {path.name: number_in(path) for path in (tmp_path / "checkpoints").iterdir()}
    assert kept == {"last.ckpt": 4, "last-1.ckpt": 3, "last-2.ckpt": 2, "best.ckpt": 4}


def test_checkpoints_without_a_history(tmp_path: Path) -> None:
    io = AtomicCheckpointIO(keep=1)
    for number in range(2):
        io.save_checkpoint(state(number), tmp_path / "last.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    with pytest.raises(ValueError, match="keep=0: expected at least 1"):
        AtomicCheckpointIO(keep=0)


def test_checkpoint_reaches_the_disk_before_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(descriptor: int) -> None:
        events.append(f"fsync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def note_replace(path: Path, target: Path) -> Path:
        events.append(f"{path.name} to {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    AtomicCheckpointIO().save_checkpoint(state(0), tmp_path / "last.ckpt")
    whole = ["fsync last.ckpt.part", "last.ckpt.part to last.ckpt", f"fsync {tmp_path.name}"]
    assert events == whole
    AtomicCheckpointIO().save_checkpoint(state(1), tmp_path / "last.ckpt")
    assert events[3:] == [whole[0], "last.ckpt to last-1.ckpt", *whole[1:]]


def test_full_disk_leaves_the_checkpoints_of_before(tmp_path: Path) -> None:
    io = AtomicCheckpointIO()
    io.save_checkpoint(state(0), tmp_path / "last.ckpt")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: .*last\.ckpt"):
            io.save_checkpoint({"weights": torch.zeros(10**6)}, tmp_path / "last.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    assert number_in(tmp_path / "last.ckpt") == 0


def test_process_killed_while_it_saves_leaves_whole_files(tmp_path: Path) -> None:
    code = f"""
import torch
from csa_inpaint.training.saving import AtomicCheckpointIO
io = AtomicCheckpointIO()
for number in range(10**6):
    state = {{"number": number, "weights": torch.zeros(10**6)}}
    io.save_checkpoint(state, {str(tmp_path / "last.ckpt")!r})
    print(number, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    while not (tmp_path / "last.ckpt.part").exists():
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    last, before = number_in(tmp_path / "last.ckpt"), number_in(tmp_path / "last-1.ckpt")
    assert last >= 2
    assert before == last - 1
