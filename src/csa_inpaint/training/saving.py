"""Checkpoint files that are whole or not there."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

LAST = "last.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, brings it to the disk, and renames it.

    A process that is killed while it writes leaves the checkpoint of before. Of ``last.ckpt`` the
    newest versions are kept: ``last.ckpt``, ``last-1.ckpt`` (the one before) and so on.

    Args:
        keep: number of versions of ``last.ckpt``.

    Raises:
        ValueError: for a number below 1.
    """

    def __init__(self, keep: int = 2) -> None:
        if keep < 1:
            raise ValueError(f"keep={keep}: expected at least 1 version of {LAST}")
        self.keep = keep

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            OSError: the file cannot be written, for example because the disk is full. What was
                written of it is removed.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        try:
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:
            part.unlink(missing_ok=True)
            # PyTorch closes its archive after the error, which fails too and hides the error.
            own = error if isinstance(error, OSError) else error.__context__
            if isinstance(own, OSError):
                raise OSError(own.errno, own.strerror, str(target)) from error
            raise
        if target.name == LAST:
            self._move_versions(target)
        part.replace(target)
        _sync_names(target.parent)

    def _move_versions(self, last: Path) -> None:
        for number in range(self.keep - 1, 0, -1):
            newer = version(last, number - 1)
            if newer.exists():
                newer.replace(version(last, number))


def version(last: Path, number: int) -> Path:
    """The file of an older version of ``last.ckpt``; 0 is the newest."""
    return last.with_name(f"{last.stem}-{number}{last.suffix}") if number else last


def _sync_names(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can open folders."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
