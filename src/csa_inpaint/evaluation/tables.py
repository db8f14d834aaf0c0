"""From the records of an evaluation to its tables: JSON, CSV, Markdown and the terminal."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from csa_inpaint.evaluation.metrics import BINS, SCORES
from csa_inpaint.evaluation.perceptual import KID_SCORES, LPIPS_SCORES, kernel_distance
from csa_inpaint.evaluation.published import PUBLISHED, PUBLISHED_SCORES, SOURCE
from csa_inpaint.evaluation.records import TRUTH, Record, bin_name, decode, mean

Scores = dict[str, dict[str, float]]  # method → score → value
ALL = "all"  # the group of every sample
# Of per_image.csv, before the scores.
COLUMNS = ("number", "name", "image", "digest", "hole_ratio", "method")
ALL_SCORES = (*SCORES, *LPIPS_SCORES, *KID_SCORES)
HEADINGS = {
    "l1": "L1 %",
    "l2": "L2 %",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "lpips_alex": "LPIPS alex",
    "lpips_vgg": "LPIPS vgg",
    "kid_alex": "KID alex",
    "kid_inception": "KID Inception",
}
GAP = "–"


@dataclass(frozen=True)
class Group:
    """The mean scores over all samples, or over those of one bin of hole ratios."""

    holes: str
    images: int
    scores: Scores


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Args:
        about: what was evaluated: plain values by name.
        groups: of all samples first, then a bin each.
        gaps: scores that could not be computed, and why.
        published: the table of published figures that may stand beside, None for none.
    """

    about: Mapping[str, Any]
    groups: Sequence[Group]
    gaps: Mapping[str, str]
    published: str | None = None

    @property
    def overall(self) -> Scores:
        """The means over all samples."""
        return self.groups[0].scores

    def title(self) -> str:
        """Which split, how many pictures and which masks."""
        return (
            f"{self.about['data']}, {self.about['split']}: {self.groups[0].images} samples of "
            f"{self.about['size'][0]}x{self.about['size'][1]}, masks: {self.about['masks']}"
        )


def groups(records: Sequence[Record], scores: Iterable[str]) -> list[Group]:
    """All samples, and those of each bin that holds some."""
    listed = list(scores)
    found = [(ALL, list(records))]
    for low, high in BINS:
        name = bin_name(low, high)
        found.append((name, [record for record in records if record.holes == name]))
    return [
        Group(name, len(members), _means(members, listed)) for name, members in found if members
    ]


def _means(records: Sequence[Record], scores: Sequence[str]) -> Scores:
    return {
        method: {
            score: _distance(records, score, method)
            if score in KID_SCORES
            else mean(record.scores[method][score] for record in records)
            for score in scores
        }
        for method in records[0].scores
    }


def _distance(records: Sequence[Record], score: str, method: str) -> float:
    truth, other = (
        decode(record.features[score][name] for record in records) for name in (TRUTH, method)
    )
    return kernel_distance(truth, other)


def write(report: Report, records: Sequence[Record], folder: Path) -> None:
    """Write ``scores.json``, ``scores.csv``, ``scores.md`` and ``per_image.csv``."""
    content = {
        **report.about,
        "gaps": dict(report.gaps),
        "scores": {
            group.holes: {"images": group.images, **group.scores} for group in report.groups
        },
    }
    (folder / "scores.json").write_text(json.dumps(content, indent=1))
    with (folder / "scores.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "holes", "images", *ALL_SCORES])
        for group in report.groups:
            for method, scores in group.scores.items():
                values = [scores.get(score, "") for score in ALL_SCORES]
                writer.writerow([method, group.holes, group.images, *values])
    (folder / "scores.md").write_text(markdown(report))
    write_per_image(records, folder / "per_image.csv")


def write_per_image(records: Sequence[Record], path: Path) -> None:
    """The scores of each sample as a CSV file, a method of a sample a row."""
    scores = list(next(iter(records[0].scores.values())))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, *scores])
        for record in records:
            start = [record.number, record.name, record.image, record.digest, record.hole_ratio]
            for method, values in record.scores.items():
                writer.writerow([*start, method, *values.values()])


def markdown(report: Report) -> str:
    """The tables of all groups, the published figures and the gaps as a Markdown page."""
    lines = [f"# {report.title()}", ""]
    lines += [f"- {key}: {value}" for key, value in report.about.items() if _is_plain(value)]
    heads = ["method", *(heading(score) for score in ALL_SCORES)]
    for group in report.groups:
        lines += ["", f"## Holes {group.holes}: {group.images} samples", ""]
        rows = [
            [method, *(number(score, scores.get(score)) for score in ALL_SCORES)]
            for method, scores in group.scores.items()
        ]
        lines += rows_as_markdown(heads, rows)
    lines += list(_published_lines(report))
    if report.gaps:
        lines += ["", "## Not computed", ""]
        lines += [f"- {heading(score)}: {reason}" for score, reason in report.gaps.items()]
    lines += [
        "",
        "L1 and L2 are per cent of the range, PSNR is in dB; “hole” is over the hole only. Bins "
        "are of the share of the picture that the hole covers.",
    ]
    return "\n".join(lines) + "\n"


def _published_lines(report: Report) -> Iterator[str]:
    """The table beside the published figures, where the protocol is theirs."""
    if report.published is None:
        return
    yield from ["", f"## Beside the published figures: {SOURCE}", ""]
    heads = ["holes", "method", *(heading(score) for score in PUBLISHED_SCORES)]
    rows = []
    measured = {group.holes: group for group in report.groups}
    figures = PUBLISHED[report.published]
    for holes in dict.fromkeys(figure.holes or ALL for figure in figures):
        for figure in figures:
            if (figure.holes or ALL) == holes:
                values = [number(score, getattr(figure, score)) for score in PUBLISHED_SCORES]
                rows.append([holes, f"{figure.method}, published", *values])
        for method, scores in measured[holes].scores.items() if holes in measured else ():
            values = [number(score, scores[score]) for score in PUBLISHED_SCORES]
            rows.append([holes, f"{method}, here", *values])
    yield from rows_as_markdown(heads, rows)
    yield ""
    yield (
        "The paper does not say whether its figures are of raw results (`refined`) or of "
        "composites."
    )


def rows_as_markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table whose first column is text."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def terminal_table(report: Report) -> Table:
    """The overall scores for a terminal, a method a row."""
    result = Table(title=report.title(), padding=0)
    result.add_column("", no_wrap=True)  # nor cut short, where the terminal is narrow
    columns = [score for score in ALL_SCORES if score not in report.gaps]
    for score in columns:
        result.add_column(heading(score), justify="right")
    for method, values in report.overall.items():
        result.add_row(method, *(number(score, values[score]) for score in columns))
    return result


def heading(score: str) -> str:
    """A score's name as tables show it: ``hole_l1`` → ``hole L1 %``."""
    prefix = "hole " if score.startswith("hole_") else ""
    return prefix + HEADINGS[score.removeprefix("hole_")]


def number(score: str, value: float | None) -> str:
    """A score's value as tables show it; None is a gap."""
    if value is None:
        return GAP
    if score in KID_SCORES:
        return f"{value:.3g}"
    return f"{value:.{2 if score.endswith('psnr') else 3}f}"


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float)
