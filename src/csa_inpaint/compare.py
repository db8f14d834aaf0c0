"""Compare evaluations: ``python -m csa_inpaint.compare RUN RUN …``; ``--help`` tells more."""

from csa_inpaint.cli.help import answer

if __name__ == "__main__":
    answer("compare")  # the imports below take seconds

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from csa_inpaint.cli.entry import command, override
from csa_inpaint.evaluation.comparison import (
    Difference,
    Run,
    check_same_samples,
    differences,
    in_order_of,
    read_run,
)
from csa_inpaint.evaluation.records import TRUTH
from csa_inpaint.evaluation.sheets import choose, picture_file, row, sheet
from csa_inpaint.evaluation.tables import GAP, heading, number, rows_as_markdown


def compare(cfg: DictConfig, folder: Path) -> dict[str, list[Difference]]:
    """Compare each run with the first; tables and a sheet go to ``folder``.

    Returns:
        The differences by the run's name.

    Raises:
        FileNotFoundError: a run is no folder of an evaluation.
        ValueError: there are fewer than two runs, they are of different pictures or masks, or a
            setting is out of range.
    """
    if isinstance(cfg.runs, str) or len(cfg.runs) < 2:
        raise ValueError(f"runs={cfg.runs}: expected two folders of csa_inpaint.evaluate or more")
    if not 0 < cfg.confidence < 1 or cfg.resamples < 1:
        raise ValueError(
            f"confidence={cfg.confidence}, resamples={cfg.resamples}: expected a confidence "
            "between 0 and 1 and at least one resample"
        )
    runs = {name: read_run(name) for name in cfg.runs}
    check_same_samples(list(runs.values()))
    shared = set.intersection(*(set(run.scores) for run in runs.values()))
    scores = [score for score in cfg.scores if score in shared]
    if not scores or cfg.sheet_score not in shared:
        raise ValueError(
            f"scores={list(cfg.scores)}, sheet_score={cfg.sheet_score}: the runs share "
            f"{', '.join(sorted(shared))}"
        )
    (first, reference), *others = runs.items()
    found = {
        name: differences(reference, run, scores, cfg.confidence, cfg.resamples, cfg.seed)
        for name, run in others
    }
    text = markdown(first, found, cfg.confidence)
    (folder / "comparison.md").write_text(text)
    (folder / "comparison.json").write_text(
        json.dumps(
            {
                "reference": first,
                "confidence": cfg.confidence,
                "differences": {
                    name: [each._asdict() for each in listed] for name, listed in found.items()
                },
            },
            indent=1,
        )
    )
    with (folder / "comparison.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["reference", "run", *Difference._fields])
        writer.writerows([first, name, *each] for name, listed in found.items() for each in listed)
    print(text)
    write_sheet(runs, folder / "comparison.png", cfg.sheet_score, cfg.images)
    print(f"Tables and a sheet: {folder}")
    return found


def markdown(reference: str, found: dict[str, list[Difference]], confidence: float) -> str:
    """One table: of each score the reference's mean, and each run's with its difference."""
    heads = ["holes", "samples", "score", "run", "mean", "difference", f"{confidence:.0%} interval"]
    rows = []
    for same_score in zip(*found.values(), strict=True):
        (first, *_) = same_score
        start = [first.holes, str(first.images), heading(first.score)]
        rows.append([*start, reference, number(first.score, first.reference), GAP, GAP])
        for name, each in zip(found, same_score, strict=True):
            change, low, high = (
                _signed(each.score, value) for value in (each.difference, each.low, each.high)
            )
            rows.append([*start, name, number(each.score, each.value), change, f"{low} … {high}"])
    lines = [
        f"# Compared with {reference}",
        "",
        *rows_as_markdown(heads, rows),
        "",
        "A difference is that of the means, run minus reference. Its interval is a bootstrap over "
        "the pictures; one that holds 0 shows no difference.",
    ]
    return "\n".join(lines) + "\n"


def _signed(score: str, value: float) -> str:
    return f"{'+' if value >= 0 else ''}{number(score, value)}"


def write_sheet(runs: dict[str, Run], path: Path, score: str, rows: int) -> None:
    """Show where the last run differs most from the first, upwards and downwards, and the middle.

    Samples are shown whose pictures all evaluations saved; there is no sheet without any.
    """
    reference, *_, run = runs.values()
    titles = [Path(name).name for name in runs]
    change = in_order_of(reference, run, score) - reference.scores[score]
    shown = {
        sample.name: float(value)
        for sample, value in zip(reference.samples, change, strict=True)
        if all(path.is_file() for path in _results(runs, sample.name))
    }
    if not shown:
        print("No sheet: no sample has its pictures in all runs (save_images of the evaluations)")
        return
    chosen = choose(shown, max(1, rows // 3))
    names = dict.fromkeys([*chosen["highest"], *chosen["median"], *chosen["lowest"][::-1]])
    lines = [
        row(
            f"{name}: {score} {_signed(score, shown[name])} from {titles[0]} to {titles[-1]}",
            reference.folder,
            name,
            _results(runs, name),
        )
        for name in names
    ]
    sheet(["masked", *titles, TRUTH], lines).save(path)


def _results(runs: dict[str, Run], name: str) -> list[Path]:
    return [picture_file(run.folder, run.method, name) for run in runs.values()]


def named(arguments: Sequence[str]) -> list[str]:
    """Arguments with folders in them as Hydra reads them: ``A B x=1`` → ``runs=[A,B] x=1``."""
    rest = [a for a in arguments if a.startswith("-") or "=" in a]
    folders = [a for a in arguments if a not in rest]
    if not folders:
        return rest
    return [*rest, f"runs=[{','.join(override('', folder)[1:] for folder in folders)}]"]


@command("compare")
def run_command(cfg: DictConfig) -> None:
    compare(cfg, Path(HydraConfig.get().runtime.output_dir))


def main() -> None:
    sys.argv[1:] = named(sys.argv[1:])
    run_command()


if __name__ == "__main__":
    main()
