import logging
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from csa_inpaint.data import FolderMask, array_cache, list_images
from csa_inpaint.data.masks import measuring
from csa_inpaint.data.masks.measuring import Survey, measure
from csa_inpaint.data.masks.raster import dilated, turned

Save = Callable[[Path, np.ndarray], Path]


@pytest.fixture
def root(tmp_path: Path, save: Save) -> Path:
    for number in range(9):
        hole = np.zeros((8, 8), dtype=bool)
        hole[2 + number % 3 :, 3 : 4 + number % 2] = True
        save(tmp_path / "masks" / f"{number}.png", hole)
    (tmp_path / "masks" / "4.png").write_text("no mask")
    return tmp_path / "masks"


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Has few files remembered; collects how many were read each time that files were."""
    counts: list[int] = []
    whole = measuring.measure_part

    def counting(survey: Survey) -> measuring.Measured:
        counts.append(len(survey.files))
        return whole(survey)

    monkeypatch.setattr(measuring, "CACHE_FROM", 5)
    monkeypatch.setattr(measuring, "measure_part", counting)
    return counts


def survey(root: Path, **settings: object) -> Survey:
    defaults = {
        "polarity": "white",
        "size": (8, 12),
        "resize": True,
        "turns": (0, 1),
        "dilation": 2,
    }
    return Survey(list_images(root), **{**defaults, **settings})


def test_holes_are_measured_in_every_shape(root: Path) -> None:
    measured = measure(survey(root), processes=False)
    folder = FolderMask(root)
    assert measured.pixels.shape == (9, 2, 3)
    assert (measured.pixels[4] == -1).all()
    for index in set(range(9)) - {4}:
        for turns in (0, 1):
            for dilation in (0, 1, 2):
                mask = dilated(turned(folder.read(index), 8, 12, turns), dilation)
                assert measured.pixels[index, turns, dilation] == mask.sum()
        assert measured.touches[index]
    (bad,) = measured.bad
    assert bad.path == str(root / "4.png")


def test_measurements_are_remembered_until_a_file_changes(
    root: Path, remembered: list[int], save: Save
) -> None:
    first = measure(survey(root), processes=False)
    assert remembered == [9]
    second = measure(survey(root), processes=False)
    assert remembered == [9, 1]  # the bad file alone, for its message
    np.testing.assert_array_equal(first.pixels, second.pixels)
    np.testing.assert_array_equal(first.touches, second.touches)
    assert [str(bad) for bad in first.bad] == [str(bad) for bad in second.bad]
    save(root / "4.png", np.eye(8, dtype=bool))
    third = measure(survey(root), processes=False)
    assert remembered == [9, 1, 9]
    assert third.pixels[4, 0, 0] > 0
    assert third.bad == []
    (root / "8.png").unlink()
    assert len(measure(survey(root), processes=False).pixels) == 8
    assert remembered == [9, 1, 9, 8]


@pytest.mark.parametrize(
    "settings",
    [
        {"polarity": "black"},
        {"size": (12, 8)},
        {"turns": (0,)},
        {"dilation": 1},
        {"resize": False},
    ],
)
def test_other_settings_are_measured_anew(
    root: Path, remembered: list[int], settings: dict[str, object]
) -> None:
    measure(survey(root), processes=False)
    measure(survey(root, **settings), processes=False)
    assert remembered == [9, 9]


def test_small_folders_are_not_remembered(root: Path, cache: Path) -> None:
    measure(survey(root), processes=False)
    assert list(cache.rglob("*")) == []


def test_several_processes_measure_the_same(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = measure(survey(root), processes=False)
    monkeypatch.setattr(measuring, "CACHE_FROM", 5)
    monkeypatch.setattr(measuring, "_TOGETHER", 4)
    together = measure(survey(root), processes=True)
    np.testing.assert_array_equal(alone.pixels, together.pixels)
    np.testing.assert_array_equal(alone.touches, together.touches)
    assert [(bad.path, str(bad)) for bad in alone.bad] == [
        (bad.path, str(bad)) for bad in together.bad
    ]
    assert len(list(cache.rglob("masks-*.npz"))) == 1


def test_processes_that_start_together_measure_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(measuring, "CACHE_FROM", 5)
    whole = measuring.measure_part
    context = multiprocessing.get_context("fork")
    begun, waited_for = context.Event(), context.Event()
    info = array_cache._log.info

    def slow(survey: Survey) -> measuring.Measured:
        begun.set()
        waited_for.wait(timeout=20)
        with (root.parent / "counts.txt").open("a") as counts:
            counts.write(f"{len(survey.files)}\n")
        return whole(survey)

    monkeypatch.setattr(measuring, "measure_part", slow)
    others = [context.Process(target=measure, args=(survey(root), False)) for _ in range(2)]
    for other in others:
        other.start()
    assert begun.wait(timeout=60)

    def told(*message: object) -> None:
        info(*message)
        waited_for.set()

    monkeypatch.setattr(array_cache._log, "info", told)  # in this process alone
    with caplog.at_level(logging.INFO):
        measured = measure(survey(root), processes=False)
    for other in others:
        other.join()
    assert measured.pixels.shape == (9, 2, 3)
    assert "another process is measuring" in caplog.text
    # One measured nine files; all read the bad one again for its message, but the first.
    assert sorted((root.parent / "counts.txt").read_text().split()) == ["1", "1", "9"]


def test_folder_that_cannot_be_written_keeps_nobody_from_measuring(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "CACHE_FROM", 5)
    (cache / "csa_inpaint").write_text("a file in the place of the folder")
    assert len(measure(survey(root), processes=False).pixels) == 9
