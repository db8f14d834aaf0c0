"""Score a model: ``python -m csa_inpaint.evaluate checkpoint=PATH``; ``--help`` tells more."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from torchmetrics import MeanMetric

from csa_inpaint.callbacks import Preview
from csa_inpaint.cli.entry import command
from csa_inpaint.evaluation.baselines import BASELINES
from csa_inpaint.evaluation.metrics import MEASURES, image_scores
from csa_inpaint.training.loading import load_model
from csa_inpaint.types import Batch
from csa_inpaint.weights.files import read_checkpoint
from csa_inpaint.weights.targets import trusted_config

Scores = dict[str, dict[str, float]]  # method → score → value
SCORES = tuple(f"{region}{measure}" for region in ("", "hole_") for measure in MEASURES)


class BaselineScores(pl.Callback):
    """Score fillings without a network on the same images and holes.

    Args:
        names: keys of ``BASELINES``.
    """

    def __init__(self, names: Sequence[str]) -> None:
        unknown = sorted(set(names) - set(BASELINES))
        if unknown:
            raise ValueError(
                f"unknown baselines {', '.join(unknown)}: there are {', '.join(BASELINES)}"
            )
        self.means = {name: {score: MeanMetric() for score in SCORES} for name in names}

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        for name, means in self.means.items():
            filled = BASELINES[name](batch.image, batch.mask)
            for score, values in image_scores(filled, batch.image, batch.mask).items():
                means[score].update(values.cpu())

    def scores(self) -> Scores:
        """The means over all images."""
        return {
            name: {score: float(mean.compute()) for score, mean in means.items()}
            for name, means in self.means.items()
        }


def evaluate(cfg: DictConfig, folder: Path) -> Scores:
    """Score the checkpoint's model, and the baselines, on the validation images.

    Scores and pictures go to ``folder``.
    """
    datamodule = instantiate(data_config(cfg), _convert_="all")
    model = load_model(cfg.checkpoint, trust=cfg.trust)
    baselines = BaselineScores(cfg.baselines)
    trainer: pl.Trainer = instantiate(
        cfg.trainer, callbacks=[Preview(folder, images=cfg.images), baselines], _convert_="all"
    )
    (logged,) = trainer.validate(model, datamodule, verbose=False)
    scores = {
        method: {score: logged[f"val/{prefix}{score}"] for score in SCORES}
        for method, prefix in (("rough", "rough_"), ("refined", "refined_"), ("composite", ""))
    }
    scores |= baselines.scores()
    write_scores(scores, folder / "scores.csv")
    Console().print(table(scores))
    print(f"Scores and pictures: {folder}")
    return scores


def data_config(cfg: DictConfig) -> DictConfig:
    """The data module's configuration: the checkpoint's, with what ``cfg`` replaces.

    Raises:
        ValueError: the checkpoint holds no configuration and ``cfg`` does not bring one, or it
            names classes that a file may not name.
    """
    saved = read_checkpoint(cfg.checkpoint).get("config")
    replaced = {key: cfg[key] for key in ("data", "mask", "seed") if key in cfg}
    if saved is None and "data" not in replaced:
        raise ValueError(
            f"{cfg.checkpoint} does not say what data it was trained on: name them with "
            "+data=… +mask=…"
        )
    base = OmegaConf.create({"seed": 0, **(saved or {})})
    for key, node in replaced.items():
        # A whole group replaces, a few keys are merged.
        whole = not isinstance(node, DictConfig) or "_target_" in node
        base[key] = node if whole else OmegaConf.merge(base[key], node)
    return trusted_config(base, "data", cfg.checkpoint, cfg.trust)


def table(scores: Scores) -> Table:
    """Scores as a table, a method a row."""
    title = "L1, L2 in per cent of the range; PSNR in dB; hole: inside the hole only"
    result = Table(title=title, padding=0)
    result.add_column("", no_wrap=True)  # nor cut short, where the terminal is narrow
    for score in SCORES:
        result.add_column(score.replace("_", " "), justify="right")
    for method, values in scores.items():
        result.add_row(method, *(f"{values[score]:.3f}" for score in SCORES))
    return result


def write_scores(scores: Scores, path: Path) -> None:
    """Scores as a CSV file, a method a row."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", *SCORES])
        for method, values in scores.items():
            writer.writerow([method, *(values[score] for score in SCORES)])


@command("evaluate")
def main(cfg: DictConfig) -> None:
    evaluate(cfg, Path(HydraConfig.get().runtime.output_dir))


if __name__ == "__main__":
    main()
