"""Replay a step on which training failed: ``python -m csa_inpaint.replay dump=PATH``."""

from csa_inpaint.cli.help import answer

if __name__ == "__main__":
    answer("replay")  # the imports below take seconds

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader

from csa_inpaint.callbacks.health import gradient_norm
from csa_inpaint.cli.entry import command
from csa_inpaint.fitting import instances
from csa_inpaint.losses.terms import Term
from csa_inpaint.training.finiteness import NonFiniteLossError
from csa_inpaint.training.module import Inpainter
from csa_inpaint.training.observer import TermObserver
from csa_inpaint.types import Batch
from csa_inpaint.weights.files import read_tensors
from csa_inpaint.weights.targets import trusted_config


class TermReport(NamedTuple):
    """One term of the replayed step."""

    name: str
    value: float
    gradient_norm: float  # of the weighted term, into the side that learns from it
    # the first module in the backward pass whose output gets a gradient that is not finite
    gradient_lost_at: str | None


class Report(NamedTuple):
    """What the replay found; None where everything was finite."""

    failure: str | None  # the error, when the step failed again
    first: str | None  # where the first value that is not finite came from
    weights: list[str]  # names of weights that were not finite before the step
    terms: list[TermReport]


class Watch(TermObserver):
    """Restores a step's state, keeps the weights, and finds the first value that is not finite.

    Args:
        dump: the content of a file that ``DumpBadBatch`` wrote.
    """

    def __init__(self, dump: dict[str, Any]) -> None:
        self.dump = dump
        self.first: str | None = None
        self.weights: list[str] = []
        self.terms: list[TermReport] = []
        self._gradient_lost_at: str | None = None

    def on_fit_start(  # type: ignore[override]  # it needs an Inpainter
        self, trainer: pl.Trainer, pl_module: Inpainter
    ) -> None:
        pl_module.load_state_dict(self.dump["weights"])
        self.weights = [n for n, p in pl_module.named_parameters() if not p.isfinite().all()]
        for name, part in pl_module.named_modules():
            if name.startswith(("generator", "discriminators.", "vgg")):
                part.register_forward_hook(self._look(name))
        # Right before the generator runs, after all other random draws.
        pl_module.generator.register_forward_pre_hook(
            lambda *_: torch.manual_seed(self.dump["seed"]) and None
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # The weights are those that the failing losses saw: the discriminators' step, which comes
        # before the generator's losses, must not move them again.
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = 0.0

    def _look(self, name: str) -> Any:
        def look(part: nn.Module, inputs: Any, output: Any) -> None:
            where = f"{name} ({type(part).__name__})"
            if self.first is None and not all(t.isfinite().all() for t in tensors(output)):
                self.first = f"the output of {where}"
                if not all(t.isfinite().all() for t in tensors(inputs)):
                    self.first += ", whose input is not finite already"
            for tensor in tensors(output):
                if tensor.requires_grad:
                    tensor.register_hook(self._look_back(where))  # type: ignore[no-untyped-call]

        return look

    def _look_back(self, where: str) -> Any:
        def look(gradient: Tensor | None) -> None:  # None where the loss does not depend on it
            lost = gradient is not None and not gradient.isfinite().all()
            if lost and self._gradient_lost_at is None:
                self._gradient_lost_at = where

        return look

    def on_discriminator_terms(
        self, pl_module: Inpainter, batch: Batch, terms: Sequence[Term]
    ) -> None:
        self._report(terms, pl_module.discriminators)

    def on_generator_terms(self, pl_module: Inpainter, batch: Batch, terms: Sequence[Term]) -> None:
        self._report(terms, pl_module.generator)

    def _report(self, terms: Sequence[Term], side: nn.Module) -> None:
        parameters = list(side.parameters())
        for term in terms:
            self._gradient_lost_at = None
            norm = float(gradient_norm(term, parameters))
            value = float(term.loss.detach())
            self.terms.append(TermReport(term.name, value, norm, self._gradient_lost_at))
            if self.first is None and not term.loss.isfinite():
                self.first = f"the loss {term.name} itself, from finite outputs of the networks"


def tensors(value: Any) -> Iterator[Tensor]:
    """The floating-point tensors in a tensor, a sequence or a mapping, at any depth."""
    if isinstance(value, Tensor) and value.is_floating_point():
        yield value
    elif isinstance(value, Mapping):
        yield from tensors(value.values())
    elif isinstance(value, Iterable) and not isinstance(value, Tensor | str):
        for entry in value:
            yield from tensors(entry)


def read_dump(path: Path) -> dict[str, Any]:
    """Read a file that ``DumpBadBatch`` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or holds something else.
    """
    dump = read_tensors(path)
    if not {"image", "mask", "weights", "seed", "config"} <= set(dump):
        raise ValueError(f"{path} is no bad_batch_….pt of a training that stopped")
    return dump


def replay(cfg: DictConfig) -> Report:
    """Repeat the step of the dump in memory, and print the report."""
    dump = read_dump(Path(cfg.dump))
    precision = str(cfg.precision or dump["precision"])
    config = OmegaConf.create(dump["config"])
    # The dump holds no average, and a compiled network would run no hooks.
    config.model.update(ema_decay=None, compile=False, generator_every=1)
    model = trusted_config(config, "model", cfg.dump, cfg.trust)
    adversaries = trusted_config(config, "adversary", cfg.dump, cfg.trust)
    watch = Watch(dump)
    trainer: pl.Trainer = instantiate(
        cfg.trainer,
        precision=precision,
        callbacks=[*instances(adversaries), watch],
        _convert_="all",
    )
    batch = Batch(dump["image"], dump["mask"], dump["path"])
    loader: DataLoader[Batch] = DataLoader([batch], batch_size=None)  # type: ignore[arg-type]
    failure = None
    try:
        trainer.fit(instantiate(model, _convert_="all"), loader)
    except NonFiniteLossError as error:
        failure = str(error)
    report = Report(failure, watch.first, watch.weights, watch.terms)
    Console(soft_wrap=True).print(table(report.terms), *lines(report, dump, precision), sep="\n")
    return report


def table(terms: list[TermReport]) -> Table:
    """The terms as a table, one term in each row."""
    result = Table(title="Terms, in the order of the step", title_justify="left")
    result.add_column("term")
    for column in ("value", "gradient norm"):
        result.add_column(column, justify="right")
    for term in terms:
        result.add_row(term.name, f"{term.value:.4g}", f"{term.gradient_norm:.4g}")
    return result


def lines(report: Report, dump: dict[str, Any], precision: str) -> Iterator[str]:
    """What the replay found, in words."""
    if not report.terms:
        yield "The step failed before its first term."
    for name in ("image", "mask"):
        if not dump[name].isfinite().all():
            yield f"The batch's {name} holds values that are not finite."
    if report.weights:
        some = ", ".join(report.weights[:3])
        yield (
            f"{len(report.weights)} weights were not finite before the step ({some} …): the "
            "gradient of an earlier step was at fault."
        )
    if report.first:
        yield f"First value that is not finite: {report.first}."
    for term in report.terms:
        if term.gradient_lost_at:
            yield (
                f"Gradient of {term.name}: the first that is not finite reaches the output of "
                f"{term.gradient_lost_at}."
            )
    yield f"Recorded at step {dump['step']}, precision {dump['precision']}: {dump['reason']}"
    if report.failure == dump["reason"]:
        yield f"The failure reproduces with precision {precision}, word for word."
    elif report.failure:
        yield f"The failure reproduces with precision {precision}: {report.failure}"
    else:
        yield f"The failure does not reproduce with precision {precision}."


@command("replay")
def main(cfg: DictConfig) -> None:
    replay(cfg)


if __name__ == "__main__":
    main()
