"""The folder of a run: where it is, what it says about the run, and where the run goes on."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from csa_inpaint.cli.job import agreed, current_job
from csa_inpaint.cli.provenance import command_line, provenance, repeatable
from csa_inpaint.training.saving import LAST
from csa_inpaint.weights.files import read_checkpoint
from csa_inpaint.weights.shipped import shipped_name

COMMAND = "csa_inpaint.train"
RECORD = "run.json"  # how each start of the run came about
VERSIONS = r"last(?:-(\d+))?\.ckpt"  # the higher the number, the older
LOCK = ".lock"
PATIENCE = 60.0  # seconds
CONFIG = "config.yaml"  # the resolved configuration


def register_run_folder() -> None:
    """Give the configuration ``${run_folder:output_root,name,checkpoint}``."""
    OmegaConf.register_new_resolver("run_folder", run_folder, use_cache=True, replace=True)


def run_folder(output_root: str, name: str, checkpoint: str | None) -> str:
    """The folder of a training whose ``hydra.run.dir`` nobody set; all ranks get the same.

    A job that its launcher started again gets the folder of its first start. A training that
    continues a run gets the folder of that run. All others get a new folder, named by the time.
    """

    def decide() -> str:
        root = Path(output_root)
        there = _folder_of_restarted_job(root) or _continued_run(checkpoint, root)
        return str(there or root / name / f"{datetime.now():%Y-%m-%d_%H-%M-%S}")

    folder = agreed("folder", decide)
    return str(folder)


def _folder_of_restarted_job(root: Path) -> Path | None:
    """The folder in which this job has started before, if its launcher starts it again.

    A job may run several trainings, so the command must be the same too.
    """
    job = current_job()
    if not job.restarts:
        return None
    same = {"job": job.name, "command": command_line(COMMAND)}
    latest: dict[Path, dict[str, Any]] = {}
    for path in root.rglob(RECORD):
        try:
            newest = read_starts(path.parent)[-1]
        except (ValueError, IndexError, AttributeError) as error:
            rank_zero_warn(f"{path} is no record of a run ({error}): passed over")
            continue
        if all(newest.get(key) == value for key, value in same.items()):
            latest[path.parent] = newest
    return max(latest, key=lambda folder: latest[folder]["time"], default=None)


def _continued_run(checkpoint: str | None, root: Path) -> Path | None:
    if checkpoint is None or checkpoint == "auto":
        return None
    return newest_run(root) if checkpoint == "last" else run_of(Path(checkpoint))


def run_of(path: Path) -> Path | None:
    """The run that a training from ``path`` continues; None where the training is a new run.

    ``path`` is a run's folder, or the ``last.ckpt`` in it. A training from an older state of a run,
    such as ``best.ckpt``, is a new run: it must not write over what came after that state.
    """
    folder = path.parents[1] if path.name == LAST and len(path.parents) > 1 else path
    return folder if (folder / RECORD).is_file() else None


def newest_run(root: Path) -> Path | None:
    """The run below a folder that saved last."""
    files = list(root.rglob("checkpoints/last*.ckpt"))
    return max(files, key=lambda file: file.stat().st_mtime).parents[1] if files else None


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest version of a run's ``last.ckpt`` that can be read; None where there is none.

    A warning names the versions that were passed over.

    Raises:
        ValueError: there are versions, and none of them can be read.
    """
    names = (re.fullmatch(VERSIONS, f.name) for f in (folder / "checkpoints").glob("last*"))
    ages = sorted((int(name[1] or 0), name[0]) for name in names if name)
    files = [folder / "checkpoints" / name for _, name in ages]
    bad: list[str] = []
    for file in files:
        try:
            read_checkpoint(file)
        except ValueError as error:
            bad.append(str(error))
            continue
        for reason in bad:
            rank_zero_warn(f"{reason}: passed over in favour of {file}")
        return file
    if bad:
        raise ValueError("\n".join(bad))
    return None


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a run's folder for as long as the block, or the process, lasts.

    Processes that load data for a training that was killed may live some seconds longer than it.

    Raises:
        RuntimeError: another training holds the folder for longer than a minute.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        rank_zero_info(f"Waiting for another process to leave {folder} …")
        try:
            lock.acquire(timeout=PATIENCE)
        except Timeout as error:
            raise RuntimeError(
                f"another process trains in {folder}: stop it, or wait for its end"
            ) from error
    try:
        yield
    finally:
        lock.release()


def start_point(checkpoint: str | None, output_root: Path, folder: Path) -> Path | None:
    """The checkpoint that a training in ``folder`` starts from; None for a start from nothing.

    Args:
        checkpoint: a checkpoint, a run's folder, ``"last"`` for the newest run below
            ``output_root``, ``"auto"`` for the run in ``folder`` if there is one, or None.
        output_root: the folder that holds all runs' folders.
        folder: of this training. A job that was started again goes on with the run in it, whatever
            ``checkpoint`` says.

    Raises:
        FileNotFoundError: there is no such file, or no run for ``"last"``.
        FileExistsError: ``folder`` holds another run.
        ValueError: the file is damaged, is no checkpoint of this library, or holds weights only.
    """
    begun = (folder / RECORD).exists()
    again = begun and (checkpoint == "auto" or current_job().restarts > 0)
    own = newest_checkpoint(folder) if again else None
    found = own or _chosen(checkpoint, output_root, folder if begun and not again else None)
    if begun and not again and (found is None or found.resolve().parents[1] != folder.resolve()):
        raise _of_another_run(folder)
    return found


def _of_another_run(folder: Path) -> FileExistsError:
    return FileExistsError(
        f"{folder} is another run's folder, perhaps of one that started in the same second: start "
        "again, or give this run a name of its own with name=NAME. checkpoint=auto goes on with "
        "the run in the folder"
    )


def _chosen(checkpoint: str | None, output_root: Path, own: Path | None) -> Path | None:
    if checkpoint is None or checkpoint == "auto":
        return None
    run = Path(checkpoint)
    if checkpoint == "last":
        newest = own or newest_run(output_root)
        if newest is None:
            raise FileNotFoundError(
                f"checkpoint=last: no run under {output_root}/ has a checkpoints/{LAST} yet; "
                "leave checkpoint out to start a new training, or give the file's path"
            )
        run = newest
    folder = run_of(run) or (run if run.is_dir() else None)
    found = run if folder is None else newest_checkpoint(folder)
    if found is None:
        raise FileNotFoundError(f"checkpoint={checkpoint}: {run} has no checkpoints/{LAST} yet")
    if shipped_name(checkpoint) is not None or "optimizer_states" not in read_checkpoint(found):
        raise ValueError(
            f"{found} holds weights only, there is no training to resume: init_from={found} starts "
            "one from them"
        )
    return found


def read_starts(folder: Path) -> list[dict[str, Any]]:
    """What ``run.json`` says about each start of a run, the first one first."""
    record = json.loads((folder / RECORD).read_text())
    starts: list[dict[str, Any]] = record.get("starts", [record])  # version 0.1 knew one start
    return starts


def write_record(cfg: DictConfig, folder: Path, checkpoint: Path | None) -> None:
    """Write the files that explain a run and repeat it, or add a start to those of a begun run.

    A continued run keeps its starting point, ``checkpoint`` and ``init_from``, in ``config.yaml``,
    so that the configuration repeats the whole run. Where other settings change, the file of before
    stays as ``config_<number of the start>.yaml``.

    Args:
        cfg: the configuration of this start.
        folder: of the run.
        checkpoint: the file that this start goes on from.
    """
    start = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "job": current_job().name,
        "checkpoint": None if checkpoint is None else str(checkpoint),
        **provenance(COMMAND),
    }
    begun = (folder / RECORD).exists()
    starts = read_starts(folder) if begun else []
    text = json.dumps({"starts": [*starts, start]}, indent=2) + "\n"
    if begun:
        part = folder / f"{RECORD}.part"
        part.write_text(text)
        part.replace(folder / RECORD)
    else:
        part = folder / f"{RECORD}.{os.getpid()}.part"
        part.write_text(text)
        try:
            os.link(part, folder / RECORD)  # a whole file, or an error where there is one
        except FileExistsError as error:
            raise _of_another_run(folder) from error
        finally:
            part.unlink()
    _write_config(cfg, folder, len(starts))


def _write_config(cfg: DictConfig, folder: Path, starts: int) -> None:
    """Write the configuration of a start after so many others."""
    config = repeatable(cfg, folder)
    file = folder / CONFIG
    if starts and file.exists():
        # Not resolved: a stranger's file may ask for anything.
        before: Any = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
        config |= {key: before.get(key) for key in ("checkpoint", "init_from")}
        if config != before:
            file.replace(folder / f"config_{starts}.yaml")
    OmegaConf.save(config, file)
