"""One table for a sweep, ``python -m csa_inpaint.train -m KEY=A,B``; see ``docs/ablations.md``."""

import csv
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from csa_inpaint.cli.entry import describe, override
from csa_inpaint.cli.job import current_job
from csa_inpaint.cli.launch import hand_on_job, one_process
from csa_inpaint.evaluate import evaluate
from csa_inpaint.weights.files import read_checkpoint
from csa_inpaint.weights.targets import targets

RESULT = "result.json"
SCORES = ("psnr", "ssim", "l1", "hole_psnr", "hole_ssim", "hole_l1")
COLUMNS = ("variant", "differs in", "parameters", "minutes", "s / step", *SCORES)
LPIPS = ("lpips_alex", "lpips_vgg")  # columns where the evaluation was given these networks
MANY = 8  # a row counts its settings where more than so many differ
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of batch norms


@dataclass
class Result:
    """What one job of a sweep left, in its folder's ``result.json``."""

    number: int
    overrides: list[str]
    config: dict[str, Any]
    seconds: float  # of the whole training, set-up and validations included
    error: str | None = None
    parameters: int | None = None  # of the generator
    steps: int | None = None  # accumulation windows
    scores: dict[str, float] = field(default_factory=dict)  # of the composite

    def measure(self, job: JobReturn, folder: Path, checkpoint: str, options: list[str]) -> None:
        """Evaluate the trained model, or note the error of a job that failed."""
        if job.status is JobStatus.FAILED:
            self.error = describe(job._return_value)
            return
        path = folder / "checkpoints" / f"{checkpoint}.ckpt"
        saved = read_checkpoint(path)
        self.steps = saved["window"]["closed"]
        self.parameters = sum(
            value.numel()
            for key, value in saved["state_dict"].items()
            if key.startswith("generator.") and not key.endswith(STATISTICS)
        )
        config = compose("evaluate", overrides=options)
        config.checkpoint = str(path)
        own = OmegaConf.create(self.config)
        parts = [OmegaConf.to_container(own[key], resolve=True) for key in ("model", "data")]
        config.trust = sorted(set(targets(parts)))  # the user's own configuration names them
        (folder / "evaluation").mkdir(exist_ok=True)
        with one_process():
            self.scores = evaluate(config, folder / "evaluation")["composite"]


class SweepTable(Callback):
    """Evaluate the model of each job of a sweep, and keep one table of all jobs.

    Hydra calls this callback (``hydra.callbacks``). Each job's figures lie in the job's own folder.
    After every job the callback collects these figures and writes ``table.md`` and ``table.csv`` in
    the sweep's folder anew, so a sweep that was stopped has a table too. The row of a job that
    failed says so.

    Args:
        checkpoint: name of the file in a job's ``checkpoints/`` that is scored. With ``last`` all
            models have trained equally long, and none was chosen by the pictures that it is scored
            on.
        evaluate: overrides of the evaluation's configuration: ``["+mask=freeform"]``.
    """

    def __init__(self, checkpoint: str = "last", evaluate: Sequence[str] = ()) -> None:
        self.checkpoint = checkpoint
        self.evaluate = list(evaluate)
        self._started = 0.0
        self._environment: dict[str, str] = {}

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        # The sweep's folder is named after choices, which Hydra looks up here. Hydra itself only
        # fills in this place when the first job starts.
        HydraConfig.instance().set_config(config)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._environment = dict(os.environ)
        self._started = time.monotonic()
        hydra = config.hydra
        if hydra.mode is RunMode.MULTIRUN:
            folder = override("hydra.run.dir", hydra.runtime.output_dir)
            hand_on_job([*hydra.overrides.task, folder])

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        hydra = config.hydra
        if hydra.mode is not RunMode.MULTIRUN:
            return
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        # Lightning tells the processes that it starts by variables, and would take the next job for
        # one of these processes.
        for key in os.environ.keys() - self._environment.keys():
            del os.environ[key]
        os.environ.update(self._environment)
        if current_job().rank > 0:  # every process of torchrun or srun calls this method
            return
        folder = Path(hydra.runtime.output_dir)
        result = Result(
            number=hydra.job.num,
            overrides=list(hydra.overrides.task),
            config=OmegaConf.to_container(job_return.cfg),  # type: ignore[arg-type]
            seconds=time.monotonic() - self._started,
        )
        try:
            result.measure(job_return, folder, self.checkpoint, self.evaluate)
        except Exception as error:
            result.error = f"trained, but not evaluated: {describe(error)}"
            raise  # Hydra turns the error into a warning
        finally:
            (folder / RESULT).write_text(json.dumps(asdict(result), indent=1))
            write_tables(Path(hydra.runtime.cwd) / hydra.sweep.dir)


def write_tables(folder: Path) -> None:
    """Write and print the table of the results below a sweep's folder."""
    results = [Result(**json.loads(path.read_text())) for path in folder.rglob(RESULT)]
    rows = list(table_rows(sorted(results, key=lambda result: result.number)))
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*columns_of(rows), "error"], restval="")
        writer.writeheader()
        writer.writerows(rows)
    text = markdown(rows)
    (folder / "table.md").write_text(text)
    print(f"\n{text}\nTable: {folder / 'table.md'}")


def table_rows(results: Sequence[Result]) -> Iterator[dict[str, Any]]:
    """A row for each result: its own overrides, the settings that they changed, and its figures.

    Where the overrides change many settings, such as the method, the row tells their number.
    """
    shared = set.intersection(*(set(result.overrides) for result in results))
    for result in results:
        typed = [o.lstrip("+") for o in result.overrides if o not in shared]
        changed = list(differences(results[0].config, result.config))
        yield {
            "variant": ", ".join(typed) or str(result.number),
            "differs in": f"{len(changed)} settings" if len(changed) > MANY else ", ".join(changed),
            "parameters": result.parameters,
            "minutes": result.seconds / 60,
            "s / step": result.seconds / result.steps if result.steps else None,
            **{score: result.scores.get(score) for score in SCORES},
            **{score: result.scores[score] for score in LPIPS if score in result.scores},
            "error": result.error,
        }


def columns_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The columns of a table, with the scores that only some evaluations have."""
    return [*COLUMNS, *(score for score in LPIPS if any(score in row for row in rows))]


def differences(one: dict[str, Any], other: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The overrides that turn the configuration ``one`` into ``other``, as a user types them."""
    for key in one | other:
        if key not in other:
            yield f"~{prefix}{key}"
        elif isinstance(one.get(key), dict) and isinstance(other[key], dict):
            yield from differences(one[key], other[key], f"{prefix}{key}.")
        elif key not in one or one[key] != other[key]:
            value = json.dumps(other[key]).replace('"', "")
            yield f"{'' if key in one else '+'}{prefix}{key}={value}"


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table, with the errors of failed jobs below the table."""
    columns = columns_of(rows)
    heads = [name.replace("hole_", "hole ").replace("l1", "l1 %") for name in columns]
    lines = [heads, ["---"] * 2 + ["---:"] * (len(heads) - 2)]
    lines += [[_cell(row, column) for column in columns] for row in rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
    failed = [
        f"- {row['variant']}: {' '.join(row['error'].split())}" for row in rows if row["error"]
    ]
    return text + ("\nFailed:\n\n" + "\n".join(failed) + "\n" if failed else "")


def _cell(row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None:
        return "failed"
    if isinstance(value, float):
        digits = 2 if column in ("minutes", "psnr", "l1", "hole_psnr", "hole_l1") else 3
        return f"{value:.{digits}f}"
    return f"{value:,}" if isinstance(value, int) else str(value) or "–"
