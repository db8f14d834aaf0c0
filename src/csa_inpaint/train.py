"""Train: ``python -m csa_inpaint.train [+experiment=NAME] [KEY=VALUE …]``; see ``--help``."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_info, rank_zero_only

from csa_inpaint.callbacks import DumpBadBatch, InitFrom, RunConfig, SaveOnInterrupt
from csa_inpaint.cli.conf import config_directory
from csa_inpaint.cli.entry import command, config_groups, override
from csa_inpaint.cli.launch import following_launcher
from csa_inpaint.cli.provenance import provenance, repeatable
from csa_inpaint.weights.files import find_checkpoint

RECORD = "run.json"  # in a run's folder: command line, commit and versions


def train(cfg: DictConfig) -> pl.Trainer:
    """Compose the parts that the configuration names, fit, and say where the results are."""
    run_folder = Path(HydraConfig.get().runtime.output_dir)
    init_from = cfg.get("init_from")  # configurations of older runs lack the key
    if cfg.checkpoint is not None and init_from is not None:
        raise ValueError(
            f"checkpoint={cfg.checkpoint} and init_from={init_from}: checkpoint continues a run "
            "with all it had, init_from starts one from weights alone; set the other to null"
        )
    _check_repeat()
    checkpoint = find_checkpoint(cfg.checkpoint, Path(cfg.output_root))
    cfg.checkpoint = None if checkpoint is None else str(checkpoint)
    _write_record(cfg, run_folder)
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=False)  # type: ignore[assignment]

    pl.seed_everything(cfg.seed, verbose=False)
    datamodule = instantiate(cfg.data, _convert_="all")
    module = instantiate(cfg.model, _convert_="all")
    trainer: pl.Trainer = instantiate(
        following_launcher(cfg.trainer),
        callbacks=[
            *instances(cfg.callbacks),
            *instances(cfg.get("adversary")),
            *([InitFrom(init_from)] if init_from is not None else []),
            RunConfig(config),
            DumpBadBatch(run_folder, config),
            SaveOnInterrupt(run_folder / "checkpoints" / "last.ckpt", _resume_command(run_folder)),
        ],
        logger=instances(cfg.logger),
        _convert_="all",
    )
    trainer.fit(module, datamodule, ckpt_path=checkpoint, weights_only=True)
    rank_zero_info(_summary(trainer, run_folder))
    return trainer


@rank_zero_only
def _write_record(cfg: DictConfig, run_folder: Path) -> None:
    """Write the files that explain the run and repeat it."""
    record = json.dumps(provenance("csa_inpaint.train"), indent=2)
    try:
        with (run_folder / RECORD).open("x") as file:
            file.write(record + "\n")
    except FileExistsError as error:
        raise FileExistsError(
            f"{run_folder} is another run's folder, perhaps of one that started in the same "
            "second: start again, or give this run a name of its own with name=NAME"
        ) from error
    OmegaConf.save(repeatable(cfg, run_folder), run_folder / "config.yaml")


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


def _resume_command(run_folder: Path) -> str:
    hydra = HydraConfig.get()
    arguments = [o for o in hydra.overrides.task if not o.startswith(("checkpoint=", "init_from="))]
    folder = str(_config_folder())
    if Path(folder) != config_directory():  # a run that repeats another one
        name = str(hydra.job.config_name)
        arguments = ["--config-path", folder, "--config-name", name, *arguments]
    checkpoint = override("checkpoint", run_folder / "checkpoints" / "last.ckpt")
    return shlex.join(["python", "-m", "csa_inpaint.train", *arguments, checkpoint])


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


@command("train")
def main(cfg: DictConfig) -> None:
    train(cfg)


if __name__ == "__main__":
    main()
