"""Pairing pictures with masks, before anything is computed."""

from pathlib import Path

import pytest

from csa_inpaint.inference.pairing import Job, Made, Plan, plan


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path, "images/a.jpg", "images/sub/b.png", "masks/a.png", "masks/sub/b.png")


def names(planned: Plan, root: Path) -> list[tuple[str, str, str]]:
    """Paths of jobs, relative to the root."""
    return [
        tuple(p if isinstance(p, str) else p.relative_to(root).as_posix() for p in job)
        for job in planned.jobs
    ]


def planned(
    root: Path,
    images: str = "images",
    masks: str | None = "masks",
    output: str = "out",
    suffix: str = ".png",
) -> Plan:
    given: Path | Made | None
    given = masks if masks in (None, "alpha", "drawn") else root / masks
    return plan(root / images, given, root / output, suffix)


def test_plan_pairs_a_folder_by_relative_name(root: Path) -> None:
    assert names(planned(root), root) == [
        ("images/a.jpg", "masks/a.png", "out/a.png"),
        ("images/sub/b.png", "masks/sub/b.png", "out/sub/b.png"),
    ]
    assert [job.output.suffix for job in planned(root, suffix=".tif").jobs] == [".tif", ".tif"]


def test_plan_takes_several_masks_of_a_picture(root: Path) -> None:
    make(root, "masks/a_mask1.png", "masks/a_mask_sky.jpg", "masks/sub/b_mask.png")
    (root / "masks/sub/b.png").unlink()
    assert names(planned(root), root) == [
        ("images/a.jpg", "masks/a.png", "out/a.png"),
        ("images/a.jpg", "masks/a_mask1.png", "out/a_mask1.png"),
        ("images/a.jpg", "masks/a_mask_sky.jpg", "out/a_mask_sky.png"),
        ("images/sub/b.png", "masks/sub/b_mask.png", "out/sub/b.png"),
    ]


@pytest.mark.parametrize("masks", [None, "images"])
def test_plan_finds_masks_beside_the_pictures(root: Path, masks: str | None) -> None:
    make(root, "images/a_mask.png", "images/sub/b_mask1.png", "images/sub/b_mask2.png")
    make(root, "images/c_masked.png", "images/d_mask.png")
    result = planned(root, masks=masks)
    assert names(result, root) == [
        ("images/a.jpg", "images/a_mask.png", "out/a.png"),
        ("images/sub/b.png", "images/sub/b_mask1.png", "out/sub/b_mask1.png"),
        ("images/sub/b.png", "images/sub/b_mask2.png", "out/sub/b_mask2.png"),
    ]
    assert result.missing == [root / "images/c_masked.png"]
    assert result.unused == [root / "images/d_mask.png"]


def test_plan_finds_the_masks_of_one_picture(root: Path) -> None:
    make(root, "images/a_mask1.png", "images/ab_mask1.png", "masks/a_mask9.png")
    result = planned(root, "images/a.jpg", None)
    assert names(result, root) == [("images/a.jpg", "images/a_mask1.png", "out/a.png")]
    assert result.unused == []
    assert len(planned(root, "images/a.jpg", "masks").jobs) == 2
    with pytest.raises(ValueError, match="has 2 masks, so that the output must be a folder"):
        planned(root, "images/a.jpg", "masks", "x.png")


def test_plan_uses_one_mask_for_all(root: Path) -> None:
    result = planned(root, masks="masks/a.png")
    assert [job.mask for job in result.jobs] == [root / "masks/a.png"] * 2


@pytest.mark.parametrize("masks", ["alpha", "drawn", "images/all.png"])
def test_plan_takes_no_mask_for_a_picture(root: Path, masks: str) -> None:
    make(root, "images/a_mask.png", "images/a_mask_2.png", "images/b_mask.png")
    if masks == "images/all.png":
        make(root, masks)
    # There is no picture b beside b_mask.
    outputs = [output for _, _, output in names(planned(root, masks=masks), root)]
    assert outputs == ["out/a.png", "out/b_mask.png", "out/sub/b.png"]


@pytest.mark.parametrize("masks", ["alpha", "drawn"])
def test_plan_uses_a_mask_that_is_made_for_each(root: Path, masks: str) -> None:
    assert names(planned(root, masks=masks), root) == [
        ("images/a.jpg", masks, "out/a.png"),
        ("images/sub/b.png", masks, "out/sub/b.png"),
    ]


def test_plan_names_the_output_of_one_picture(root: Path) -> None:
    image, mask = root / "images/a.jpg", root / "masks/a.png"
    for output in ("x.png", "x.tif", "x.jpg"):
        assert planned(root, "images/a.jpg", output=output).jobs == [
            Job(image, mask, root / output)
        ]
    assert planned(root, "images/a.jpg").jobs == [Job(image, mask, root / "out/a.png")]
    with pytest.raises(ValueError, match=r"x\.gif: pictures are written as"):
        planned(root, "images/a.jpg", output="x.gif")
    with pytest.raises(ValueError, match="format=gif: expected png"):
        planned(root, suffix=".gif")


def test_plan_lists_pictures_without_masks_and_masks_without_pictures(root: Path) -> None:
    (root / "masks/sub/b.png").rename(root / "masks/c.png")
    result = planned(root)
    assert names(result, root) == [("images/a.jpg", "masks/a.png", "out/a.png")]
    assert result.missing == [root / "images/sub/b.png"]
    assert result.unused == [root / "masks/c.png"]


def test_plan_names_missing_masks_and_paths(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        planned(root, "absent")
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        planned(root, masks="absent")
    with pytest.raises(FileNotFoundError, match=r"no mask in .*masks for .*sub/b\.png"):
        planned(root, "images/sub/b.png", "masks")
    with pytest.raises(FileNotFoundError, match=r"no mask in .*images for .*a\.jpg.*_mask1"):
        planned(root, masks=None)


def test_plan_never_overwrites_an_input(root: Path) -> None:
    with pytest.raises(ValueError, match=r"b\.png would replace an input"):
        planned(root, output="images")
    with pytest.raises(ValueError, match=r"a\.png would replace an input"):
        planned(root, output="masks")
    (root / "link").symlink_to(root / "images")
    with pytest.raises(ValueError, match="would replace an input"):
        planned(root, output="link")


def test_plan_refuses_a_file_as_output_of_a_folder(root: Path) -> None:
    with pytest.raises(FileExistsError, match="is a file, but images"):
        planned(root, output="masks/a.png")


def test_plan_refuses_two_pictures_of_one_name(root: Path) -> None:
    make(root, "images/a.png")
    with pytest.raises(ValueError, match="differ only in their extension"):
        planned(root)


def test_plan_leaves_out_results_below_the_pictures(tmp_path: Path) -> None:
    make(tmp_path, "in/a.png", "in/a_mask.png", "in/filled/a.png", "in/filled/a_mask.png")
    plans = planned(tmp_path, "in", None, "in/filled")
    assert names(plans, tmp_path) == [("in/a.png", "in/a_mask.png", "in/filled/a.png")]
