"""Paired comparison: pairing by name, differences, bootstrap intervals."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from csa_inpaint.compare import named
from csa_inpaint.evaluation.comparison import (
    Run,
    Sample,
    bootstrap,
    check_same_samples,
    differences,
    read_run,
)
from csa_inpaint.evaluation.records import Record
from csa_inpaint.evaluation.tables import write_per_image

Writer = Callable[..., str]


@pytest.fixture
def evaluated(tmp_path: Path, make_record: Callable[..., Record]) -> Writer:
    """Writes an evaluation with the given PSNR of each sample, in the given order of samples."""

    def make(
        name: str, psnr: list[float], order: list[int] | None = None, method: str = "m"
    ) -> str:
        folder = tmp_path / name
        folder.mkdir()
        records = [
            make_record(n, (0.15, 0.45)[n % 2], **{method: {"psnr": psnr[n]}})
            for n in order or range(len(psnr))
        ]
        write_per_image(records, folder / "per_image.csv")
        return str(folder)

    return make


def test_difference_is_paired_by_name(evaluated: Writer) -> None:
    one = read_run(evaluated("one", [20, 21, 22, 23]))
    other = read_run(evaluated("other", [21, 21, 23, 26], order=[3, 1, 0, 2]))
    check_same_samples([one, other])
    whole, low, high = differences(one, other, ["psnr"], 0.95, 1000, 0)
    assert (whole.holes, whole.images, whole.reference, whole.value) == ("all", 4, 21.5, 22.75)
    assert whole.difference == 1.25
    assert (low.holes, low.images, low.difference) == ("(0.1, 0.2]", 2, 1)
    assert (low.low, low.high) == (1, 1)  # both pictures gain as much
    assert (high.holes, high.difference, high.low, high.high) == ("(0.4, 0.5]", 1.5, 0, 3)


def test_difference_is_drawn_by_picture() -> None:
    values = np.random.default_rng(0).normal(0, 1, 40)
    widths = []
    for images in (range(40), [n // 8 for n in range(40)]):
        samples = tuple(Sample(f"{n}", f"{i}.png", "", 0.15) for n, i in enumerate(images))
        one, other = (Run(Path(), "m", samples, {"psnr": v}) for v in (np.zeros(40), values))
        (each,) = differences(one, other, ["psnr"], 0.95, 1000, 0)
        images_as_text = np.array([sample.image for sample in samples])
        assert (each.low, each.high) == bootstrap(values, images_as_text, 0.95, 1000, 0)
        widths.append(each.high - each.low)
    assert widths[0] != widths[1]


def test_bin_of_all_samples_is_not_told_twice(evaluated: Writer) -> None:
    run = read_run(evaluated("one", [20.0]))
    (only,) = differences(run, run, ["psnr"], 0.95, 10, 0)
    assert only.holes == "all"


def test_interval_of_a_mean_is_that_of_its_distribution() -> None:
    values = np.random.default_rng(0).normal(1, 2, 400)
    low, high = bootstrap(values, np.arange(400).astype(str), 0.95, 20_000, 0)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)
    assert bootstrap(values, np.arange(400).astype(str), 0.5, 20_000, 0)[1] < high
    assert (low, high) == bootstrap(values, np.arange(400).astype(str), 0.95, 20_000, 0)


def test_masks_of_one_picture_are_drawn_together() -> None:
    values = np.repeat(np.random.default_rng(0).normal(0, 1, 50), 8)
    images = np.repeat(np.arange(50), 8).astype(str)
    together = bootstrap(values, images, 0.95, 5000, 0)
    apart = bootstrap(values, np.arange(400).astype(str), 0.95, 5000, 0)
    assert np.ptp(together) == pytest.approx(np.sqrt(8) * np.ptp(apart), rel=0.1)


def test_other_pictures_are_not_compared(evaluated: Writer) -> None:
    three, four = evaluated("three", [20, 21, 22]), evaluated("four", [20, 21, 22, 23])
    with pytest.raises(ValueError, match="1 of 4 samples differ, 3 for one"):
        check_same_samples([read_run(three), read_run(four)])
    path = Path(three) / "per_image.csv"
    rows = list(csv.reader(path.open()))
    rows[2][rows[0].index("digest")] = "another mask"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    again = evaluated("again", [20, 21, 22])
    with pytest.raises(ValueError, match="1 of 3 samples differ, 1 for one"):
        check_same_samples([read_run(three), read_run(again)])


def test_run_names_its_method(evaluated: Writer) -> None:
    folder = evaluated("one", [20, 21], method="telea")
    assert read_run(folder).method == read_run(f"{folder}:telea").method == "telea"
    with pytest.raises(ValueError, match="has telea: write"):
        read_run(f"{folder}:composite")
    with pytest.raises(FileNotFoundError, match=r"absent is no folder of a finished"):
        read_run("absent")


def test_arguments_without_an_equals_sign_are_runs() -> None:
    assert named(["a", "images=3", "b:telea", "--cfg"]) == ["images=3", "--cfg", "runs=[a,b:telea]"]
    assert named(["runs=[a,b]"]) == ["runs=[a,b]"]
    assert named(["a b", "c"]) == ["runs=['a b',c]"]
