"""What ``csa_inpaint.train`` runs: the parts of a configuration, put together and fitted."""

import errno
import shlex
import shutil
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_info

from csa_inpaint.callbacks import (
    DumpBadBatch,
    InitFrom,
    KeepLogs,
    Preempted,
    RunConfig,
    SaveWithinEpoch,
)
from csa_inpaint.cli.conf import config_directory
from csa_inpaint.cli.entry import INTERRUPTED, config_groups, override
from csa_inpaint.cli.job import agreed, current_job, in_slurm, requeue
from csa_inpaint.cli.launch import following_launcher
from csa_inpaint.training.runs import (
    RECORD,
    claimed,
    register_run_folder,
    start_point,
    write_record,
)
from csa_inpaint.training.saving import LAST

METRICS = "metrics.csv"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

register_run_folder()


def train(cfg: DictConfig) -> pl.Trainer:
    """Compose the parts that the configuration names, fit, and say where the results are.

    Raises:
        ValueError: ``checkpoint`` and ``init_from`` are both set, or a setting is out of range.
        RuntimeError: another process trains in the run's folder.
    """
    run_folder = Path(HydraConfig.get().runtime.output_dir)
    with claimed(run_folder) if current_job().rank == 0 else nullcontext():
        return _train(cfg, run_folder)


def _train(cfg: DictConfig, run_folder: Path) -> pl.Trainer:
    init_from = cfg.get("init_from")  # configurations of older runs lack the key
    if cfg.checkpoint not in (None, "auto") and init_from is not None:
        raise ValueError(
            f"checkpoint={cfg.checkpoint} and init_from={init_from}: checkpoint continues a run "
            "with all it had, init_from starts one from weights alone; set the other to null"
        )
    _check_repeat()
    trainer_config = following_launcher(cfg.trainer)
    checkpoint = _begin(cfg, run_folder)
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=False)  # type: ignore[assignment]

    pl.seed_everything(cfg.seed, verbose=False)
    datamodule = instantiate(cfg.data, _convert_="all")
    module = instantiate(cfg.model, _convert_="all")
    last = run_folder / "checkpoints" / LAST
    resume = _resume_command(last, started_from_weights=init_from is not None)
    save = SaveWithinEpoch(last, resume, cfg.get("every_minutes"))
    trainer: pl.Trainer = instantiate(
        trainer_config,
        callbacks=[
            *instances(cfg.callbacks),
            *instances(cfg.get("adversary")),
            *([InitFrom(init_from)] if init_from is not None and checkpoint is None else []),
            RunConfig(config),
            KeepLogs(),
            DumpBadBatch(run_folder, config),
            save,
        ],
        logger=instances(cfg.logger),
        _convert_="all",
    )
    save.listen()  # a signal may come while files are listed
    try:
        trainer.fit(module, datamodule, ckpt_path=checkpoint, weights_only=True)
    except Preempted as stop:
        if in_slurm() and stop.signal == signal.SIGUSR1 and trainer.is_global_zero:
            requeue()
        raise
    except SystemExit as stop:  # Lightning's, with status 1, after Ctrl-C
        raise SystemExit(INTERRUPTED) if save.interrupted else stop from None
    except OSError as error:
        if error.errno in DISK_FULL:
            error.add_note(_remedy(last, resume))
        raise
    rank_zero_info(_summary(trainer, run_folder))
    return trainer


def _begin(cfg: DictConfig, run_folder: Path) -> Path | None:
    """Find where the training starts from, and note the start in the run's folder."""

    def decide() -> str | None:
        start = start_point(cfg.checkpoint, Path(cfg.output_root), run_folder)
        path = None if start is None else str(start)
        cfg.checkpoint = path
        write_record(cfg, run_folder, start)
        if start is None:  # a run that was killed before its first checkpoint
            (run_folder / METRICS).unlink(missing_ok=True)
        return path

    cfg.checkpoint = agreed("checkpoint", decide)
    if cfg.checkpoint is None:
        return None
    rank_zero_info(f"Continuing from {cfg.checkpoint} in {run_folder}")
    return Path(cfg.checkpoint)


def _remedy(last: Path, resume: str) -> str:
    """What to do about a full disk."""
    folder = last.parents[1]
    free = shutil.disk_usage(folder).free / 2**20
    lines = [f"There is no room left for {folder} ({free:.0f} MB are free)."]
    if last.exists():
        lines.append(f"{last} is whole. Make room and continue with:\n  {resume}")
    return " ".join(lines)


def instances(nodes: DictConfig | None) -> list[Any]:
    """Instantiate the entries of a config group; null entries are left out."""
    return [instantiate(node, _convert_="all") for node in (nodes or {}).values() if node]


def _check_repeat() -> None:
    """Refuse overrides that cannot change a run's own configuration, because it is resolved."""
    if not (_config_folder() / RECORD).exists():
        return
    groups = config_groups(config_directory())  # a resolved configuration has nothing to choose
    for argument in HydraConfig.get().overrides.task:
        key = argument.lstrip("+~").partition("=")[0]
        first = key.split(".")[0]
        if first in ("adversarial_weight", "fidelity", "mask", "objective") or key in groups:
            raise ValueError(
                f"{argument} would not change the repeated run: its configuration is resolved, and "
                f"{first} was copied to where it is used. Set that key (data.mask.…, model.…, "
                "adversary.….objective.…; --cfg job prints all), or start a new run with the "
                "choices of the old one, which its run.json holds"
            )


def _config_folder() -> Path:
    """The folder of the configuration: the library's, or that of a run that is repeated."""
    sources = HydraConfig.get().runtime.config_sources
    (folder,) = (source.path for source in sources if source.provider == "main")
    return Path(folder)


def _resume_command(last: Path, started_from_weights: bool) -> str:
    hydra = HydraConfig.get()
    arguments = [o for o in hydra.overrides.task if not o.startswith(("checkpoint=", "init_from="))]
    folder = str(_config_folder())
    if Path(folder) != config_directory():  # a run that repeats another one
        name = str(hydra.job.config_name)
        arguments = ["--config-path", folder, "--config-name", name, *arguments]
    for source in hydra.runtime.config_sources:
        if source.provider == "command-line":
            arguments = ["--config-dir", str(source.path), *arguments]
    arguments += [o for o in hydra.overrides.hydra if o.startswith("hydra.searchpath=")]
    checkpoint = override("checkpoint", last)
    # An experiment or a repeated run's configuration may name weights too.
    instead = ["init_from=null"] if started_from_weights else []
    return shlex.join(["python", "-m", "csa_inpaint.train", *arguments, *instead, checkpoint])


def _summary(trainer: pl.Trainer, run_folder: Path) -> str:
    scores = {k: v for k, v in trainer.callback_metrics.items() if k in ("val/psnr", "val/ssim")}
    lines = [f"\nRun folder: {run_folder}"]
    for name in ("config.yaml", "run.json", "metrics.csv", "checkpoints", "previews"):
        if (run_folder / name).exists():
            lines.append(f"  {name}")
    previews = sorted((run_folder / "previews").glob("*.png"))
    if previews:
        lines.append(f"Held-out pictures: {previews[-1]}")
    if scores:
        lines.append(", ".join(f"{name} {float(value):.3f}" for name, value in scores.items()))
    return "\n".join(lines)
