"""Score methods: ``python -m csa_inpaint.evaluate checkpoint=PATH``; ``--help`` tells more."""

from csa_inpaint.cli.help import answer

if __name__ == "__main__":
    answer("evaluate")  # the imports below take seconds

from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import Tensor

from csa_inpaint.cli.entry import command
from csa_inpaint.cli.provenance import provenance
from csa_inpaint.evaluation.baselines import baseline
from csa_inpaint.evaluation.benchmark import (
    BenchmarkSource,
    file_hash,
    in_words,
    masks_in_words,
    read_benchmark,
)
from csa_inpaint.evaluation.evaluator import MODEL_METHODS, Evaluator, Filling
from csa_inpaint.evaluation.metrics import SCORES
from csa_inpaint.evaluation.others import OnnxModel, ResultsFolder
from csa_inpaint.evaluation.perceptual import load_judges
from csa_inpaint.evaluation.records import TRUTH, Journal
from csa_inpaint.evaluation.samples import Source, SplitSource, spread
from csa_inpaint.evaluation.sheets import MASK, write_sheets
from csa_inpaint.evaluation.tables import Report, Scores, groups, terminal_table, write
from csa_inpaint.inference.pictures import make_filler
from csa_inpaint.training.loading import load_model
from csa_inpaint.training.module import Inpainter
from csa_inpaint.types import Batch
from csa_inpaint.weights.files import SUFFIX, model_file, read_checkpoint, settings_file
from csa_inpaint.weights.targets import trusted_config

# Settings of a data module that change no sample.
_LOADING = (
    "batch_size", "val_batch_size", "num_workers", "prefetch_factor", "pin_memory",
    "persistent_workers",
)  # fmt: skip
_TARS = ("_target_", "urls", "val_urls", "val_fraction")  # of a data module that has no layout


class Subject(NamedTuple):
    """The samples of an evaluation, and how they are told and loaded."""

    source: Source
    about: dict[str, Any]  # for tables: data, split, masks
    identity: Any  # plain values: two evaluations with the same one have the same samples
    published: str | None
    batch_size: int
    num_workers: int


def evaluate(cfg: DictConfig, folder: Path) -> Scores:
    """Score a checkpoint's model and other methods on the data's ``test_split`` or a benchmark.

    Tables, sheets and pictures go to ``folder``. Where it holds an evaluation that was interrupted,
    the samples that it has scores of are left out.

    Returns:
        The means over all samples.

    Raises:
        ValueError: there is nothing to score, a setting is wrong, or the folder holds an evaluation
            with other settings.
    """
    subject = _benchmark(cfg) if cfg.benchmark else _split(cfg)
    source = subject.source
    numbers = spread(len(source.names), cfg.limit_images)
    lpips, networks, gaps = load_judges(cfg.weights, source.size)
    model = None if cfg.checkpoint is None else load_model(cfg.checkpoint, trust=cfg.trust)
    others = _others(cfg, model, [source.names[number] for number in numbers])
    per_picture = [*SCORES, *lpips]
    _check(cfg, others, per_picture)
    if model is not None and model.trained_size not in (None, min(source.size)):
        print(
            f"The model was trained at {model.trained_size} pixels and is scored at "
            f"{min(source.size)}: data.size={model.trained_size} scores it as it was trained"
        )
    journal = Journal(folder)
    journal.begin(_identity(cfg, subject))
    done = {record.number for record in journal.read()}
    trainer: pl.Trainer = instantiate(cfg.trainer, _convert_="all")
    evaluator = Evaluator(
        model=model,
        others=others,
        source=source,
        numbers=[number for number in numbers if number not in done],
        pictured=[numbers[index] for index in spread(len(numbers), cfg.save_images)],
        lpips=lpips,
        networks=networks,
        journal=journal,
        folder=folder,
        batch_size=cfg.batch_size or subject.batch_size,
        num_workers=subject.num_workers if cfg.num_workers is None else cfg.num_workers,
    )
    if evaluator.numbers:
        if done and trainer.is_global_zero:
            print(f"{len(done)} of {len(numbers)} samples are already scored in {folder}")
        try:
            trainer.test(evaluator, verbose=False)
        except (KeyboardInterrupt, SystemExit):  # the latter is what Lightning makes of Ctrl-C
            print(f"\nStopped: the same command with folder={folder} goes on where it was")
            raise
        trainer.strategy.barrier()

    records = journal.read()
    report = Report(
        about={
            **subject.about,
            "size": list(source.size),
            "checkpoint": cfg.checkpoint,
            **provenance("csa_inpaint.evaluate"),
        },
        groups=groups(records, [*per_picture, *networks]),
        gaps=gaps,
        # A part of the pictures is another protocol.
        published=subject.published if len(numbers) == len(source.names) else None,
    )
    if trainer.is_global_zero:
        write(report, records, folder)
        write_sheets(records, folder, cfg.sheet_score, cfg.images)
        Console().print(terminal_table(report))
        for score, reason in gaps.items():
            print(f"{score} is not computed: {reason}")
        print(f"Scores of each bin of hole ratios, of each picture, and sheets: {folder}")
    return report.overall


def _check(cfg: DictConfig, others: Mapping[str, Filling], scores: Sequence[str]) -> None:
    """Refuse what would fail only after the pictures are scored.

    Raises:
        ValueError: there is nothing to score, or a setting is out of range.
    """
    if cfg.checkpoint is None and not others:
        raise ValueError(
            "there is no method to score: give checkpoint=PATH, baselines=[telea], +onnx.NAME.path="
            "FILE or +results.NAME=FOLDER"
        )
    if cfg.sheet_score not in scores:
        raise ValueError(f"sheet_score={cfg.sheet_score}: expected one of {', '.join(scores)}")
    for key in ("limit_images", "save_images", "images"):
        if cfg[key] is not None and cfg[key] < 1:
            raise ValueError(f"{key}={cfg[key]}: expected 1 or more")
    if str(cfg.trainer.precision) not in ("32-true", "32", "bf16-mixed", "16-mixed"):
        raise ValueError(
            f"trainer.precision={cfg.trainer.precision}: expected 32-true, bf16-mixed or 16-mixed, "
            "which leave the networks that judge in float32"
        )


def data_config(cfg: DictConfig) -> DictConfig:
    """The data module's configuration: the checkpoint's, with what ``cfg`` replaces.

    Raises:
        ValueError: the checkpoint names classes that a file may not name, it holds no
            configuration, or there is no checkpoint, and ``cfg`` does not bring one.
    """
    saved = None if cfg.checkpoint is None else read_checkpoint(cfg.checkpoint).get("config")
    replaced = {key: cfg[key] for key in ("data", "mask", "seed") if key in cfg}
    base = OmegaConf.create({"seed": 0, **(saved or {})})
    for key, node in replaced.items():
        # A whole group replaces, a few keys are merged.
        whole = not isinstance(node, DictConfig) or "_target_" in node
        base[key] = node if whole or key not in base else OmegaConf.merge(base[key], node)
    if "mask" in replaced and "data" in base:
        # Training may have copied its masks to where they are used, and validated on others.
        given: Any = cfg.get("data") or {}
        base.data.mask = given.get("mask", base.mask)
        base.data.val_mask = given.get("val_mask")
    if (saved is None and "_target_" not in base.get("data", {})) or "mask" not in base:
        reason = f"{cfg.checkpoint} does not say what data it was trained on"
        if cfg.checkpoint is None:
            reason = "there is no checkpoint to take the data from"
        raise ValueError(f"{reason}: name data and masks with +data=… +mask=…, or a benchmark=…")
    return trusted_config(base, "data", cfg.checkpoint or "the command line", cfg.trust)


def _split(cfg: DictConfig) -> Subject:
    """The samples of the data's ``test_split``."""
    config = data_config(cfg)
    datamodule = instantiate(config, _convert_="all")
    data: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    masks = masks_in_words(data)
    layout = in_words(data["layout"] if "layout" in data else {k: data[k] for k in _TARS})
    root = data.get("root")
    return Subject(
        SplitSource(datamodule.dataset(datamodule.test_split)),
        {
            "data": layout if root is None else f"{layout} in {root}",
            "split": f"{datamodule.test_split} split",
            "masks": masks,
        },
        {key: value for key, value in data.items() if key not in _LOADING},
        None,
        datamodule.val_batch_size,
        datamodule.num_workers,
    )


def _benchmark(cfg: DictConfig) -> Subject:
    """The samples of a benchmark.

    Raises:
        ValueError: the configuration also names other data or masks.
    """
    data = OmegaConf.to_container(cfg.data) if "data" in cfg else {}
    if "mask" in cfg or not isinstance(data, dict) or set(data) - {"root"}:
        raise ValueError(
            f"benchmark={cfg.benchmark} fixes pictures and masks: leave out +mask and all of +data "
            "but +data.root=DIR, the folder of its pictures"
        )
    path = Path(cfg.benchmark)
    if path.suffix != ".json":
        path = Path(cfg.output_root) / "benchmarks" / f"{cfg.benchmark}.json"
    benchmark, root = read_benchmark(path)
    return Subject(
        BenchmarkSource(benchmark, Path(data.get("root", root)).expanduser()),
        {
            "data": benchmark.data,
            "split": f"benchmark {benchmark.name} ({benchmark.sha256[:12]})",
            "masks": benchmark.masks,
        },
        benchmark.sha256,
        benchmark.published,
        batch_size=8,
        num_workers=0,
    )


def _others(cfg: DictConfig, model: Inpainter | None, names: Sequence[str]) -> dict[str, Filling]:
    """The methods beside the model's own results, by name.

    Raises:
        ValueError: two methods have one name, or a setting is not known.
    """
    others: dict[str, Filling] = {name: baseline(name) for name in cfg.baselines}
    given: dict[str, Filling] = {}
    for name, settings in cfg.onnx.items():
        given[name] = _onnx(name, OmegaConf.to_container(settings, resolve=True))
    for name, path in cfg.results.items():
        given[name] = ResultsFolder(path, names)
    for name, settings in cfg.inpaint.items():
        given[name] = _inpainted(name, model, OmegaConf.to_container(settings, resolve=True))
    listed = [*cfg.onnx, *cfg.results, *cfg.inpaint, *others, *MODEL_METHODS, TRUTH, MASK]
    taken = [name for name in given if listed.count(name) > 1]
    if taken:
        raise ValueError(
            f"two methods are called {taken[0]}: give +onnx, +results and +inpaint other names"
        )
    return others | given


def _inpainted(name: str, model: Inpainter | None, settings: Any) -> Filling:
    """What ``csa_inpaint.inpaint`` makes of each picture with these settings."""
    if model is None:
        raise ValueError(f"inpaint.{name} needs a model: give checkpoint=PATH")
    known = signature(make_filler).parameters.keys() - {"model"}
    if not isinstance(settings, dict) or not settings.keys() <= known:
        raise ValueError(f"inpaint.{name}={settings}: expected some of {', '.join(sorted(known))}")
    try:
        filler = make_filler(model, **{"backend": "eager", **settings})
    except (TypeError, ValueError) as error:
        raise ValueError(f"inpaint.{name}: {error}") from error

    def fill(batch: Batch) -> Tensor:
        filled = batch.image.clone()
        for image, mask in zip(filled, batch.mask, strict=True):
            if mask.any():
                image.copy_(filler.tensor(image, mask))
        return filled

    return fill


def _onnx(name: str, settings: Any) -> OnnxModel:
    if not isinstance(settings, dict) or "path" not in settings:
        raise ValueError(f"onnx.{name}={settings}: expected +onnx.{name}.path=FILE")
    try:
        return OnnxModel(**settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"onnx.{name}: {error}") from error


def _identity(cfg: DictConfig, subject: Subject) -> dict[str, Any]:
    """What decides the scores, as plain values."""
    plain: Any = OmegaConf.to_container(cfg)
    keys = ["baselines", "onnx", "results", "weights", "limit_images", "save_images"]
    keys += ["inpaint"] if plain["inpaint"] else []  # as it was before this setting came
    return {
        "samples": subject.identity,
        "checkpoint": None if cfg.checkpoint is None else _model_hash(cfg.checkpoint),
        **{key: plain[key] for key in keys},
        "precision": str(cfg.trainer.precision),
    }


def _model_hash(checkpoint: str) -> str:
    """The content of a model's file, and of the settings beside it where they are there."""
    weights = model_file(checkpoint)
    beside = settings_file(weights)
    own = weights.suffix == SUFFIX and beside.is_file()
    return " ".join(file_hash(path) for path in ([weights, beside] if own else [weights]))


@command("evaluate")
def main(cfg: DictConfig) -> None:
    evaluate(cfg, Path(HydraConfig.get().runtime.output_dir))


if __name__ == "__main__":
    main()
