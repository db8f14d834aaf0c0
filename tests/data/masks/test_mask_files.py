import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from csa_inpaint.data import (
    BlobMask,
    BorderMask,
    CenterMask,
    FolderMask,
    FreeformMask,
    HoleRatioMask,
    InvertedMaskWarning,
    IrregularTestMask,
    MaskGenerator,
    MixtureMask,
    RectangleMask,
    SoftMaskWarning,
    UnreadableImageError,
    load_mask,
    mask_from_array,
)

HOLE = np.zeros((12, 16), dtype=bool)
HOLE[3:7, 2:9] = True


def save(path: Path, hole: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(hole.astype(np.uint8) * 255).save(path)
    return path


@pytest.fixture
def generators(tmp_path: Path) -> dict[str, MaskGenerator]:
    for number in range(4):
        save(tmp_path / "masks" / f"{number}.png", np.roll(HOLE, number, axis=1))
    return {
        "center": CenterMask(0.5),
        "rectangle": RectangleMask((0.1, 0.9), count=(1, 3)),
        "freeform": FreeformMask(),
        "folder": FolderMask(tmp_path / "masks"),
        "mixture": MixtureMask({"a": CenterMask(3), "b": FreeformMask()}),
        "border": BorderMask(count=(1, 4)),
        "blob": BlobMask(),
        "varied folder": FolderMask(tmp_path / "masks", flip=True, rotate=True, dilate=(0, 2)),
        "ratio": HoleRatioMask(RectangleMask((0.1, 0.9)), (0.2, 0.3)),
    }


KINDS = [
    "center",
    "rectangle",
    "freeform",
    "folder",
    "mixture",
    "border",
    "blob",
    "varied folder",
    "ratio",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(64, 64), (24, 56)])
def test_hole_is_never_empty_or_everything_and_follows_the_seed(
    generators: dict[str, MaskGenerator], kind: str, size: tuple[int, int]
) -> None:
    masks = []
    for seed in range(40):
        mask = generators[kind](*size, np.random.default_rng(seed))
        assert mask.dtype == bool
        assert set(mask.view(np.uint8).flat) == {0, 1}  # Pillow's own boolean arrays hold 255
        assert mask.shape == size
        assert mask.any()
        assert not mask.all()
        np.testing.assert_array_equal(mask, generators[kind](*size, np.random.default_rng(seed)))
        masks.append(mask.tobytes())
    assert len(set(masks)) == 1 if kind == "center" else len(set(masks)) > 3


def test_folder_masks_use_every_file_and_resize_with_nearest_neighbour(
    generators: dict[str, MaskGenerator],
) -> None:
    found = {
        generators["folder"](24, 32, np.random.default_rng(seed)).tobytes() for seed in range(50)
    }
    expected = {
        np.roll(HOLE, number, axis=1).repeat(2, 0).repeat(2, 1).tobytes() for number in range(4)
    }
    assert found == expected


def test_folder_masks_of_another_size_are_refused_without_resizing(tmp_path: Path) -> None:
    save(tmp_path / "a.png", HOLE)
    with pytest.raises(ValueError, match=r"a\.png has 12x16 pixels .* its picture 16x16"):
        FolderMask(tmp_path, resize=False)(16, 16, np.random.default_rng(0))


def test_folder_masks_with_black_holes(tmp_path: Path) -> None:
    save(tmp_path / "a.png", ~HOLE)
    mask = FolderMask(tmp_path, polarity="black")(12, 16, np.random.default_rng(0))
    np.testing.assert_array_equal(mask, HOLE)


def test_folder_of_soft_masks_warns_once(tmp_path: Path) -> None:
    for name in "ab":
        Image.fromarray(np.where(HOLE, 200, 30).astype(np.uint8)).save(tmp_path / f"{name}.png")
    generator = FolderMask(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for seed in range(20):
            generator(12, 16, np.random.default_rng(seed))
    assert [warning.category for warning in caught] == [SoftMaskWarning]


def test_folder_without_root_says_what_to_add() -> None:
    with pytest.raises(ValueError, match=r"mask\.root=/path/to/masks"):
        FolderMask(None)


def test_mixture_follows_its_weights() -> None:
    kinds = {"small": CenterMask(2), "large": CenterMask(8), "never": CenterMask(4)}
    generator = MixtureMask(kinds, {"large": 3, "small": 1, "never": 0})
    rng = np.random.default_rng(0)
    holes = [int(generator(16, 16, rng).sum()) for _ in range(800)]
    assert set(holes) == {4, 64}
    assert np.mean(np.array(holes) == 64) == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize("weights", [{"a": 1}, {"a": -1, "b": 2}, {"a": 0, "b": 0}])
def test_mixture_refuses_weights_that_do_not_fit(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"mask\.weights"):
        MixtureMask({"a": CenterMask(3), "b": CenterMask(4)}, weights)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16", "labels"])
def test_mask_files_of_any_depth(tmp_path: Path, mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(HOLE.astype(np.uint16) * 65535)
    elif mode == "labels":
        image = Image.fromarray(HOLE.astype(np.uint8))
    else:
        image = Image.fromarray(HOLE.astype(np.uint8) * 255).convert(mode)
    image.save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(load_mask(tmp_path / "a.png"), HOLE)


def test_soft_mask_is_thresholded_at_half_with_one_warning(tmp_path: Path) -> None:
    values = HOLE.astype(np.uint8) * 255
    values[0, :6] = [1, 60, 127, 128, 200, 254]
    Image.fromarray(values).save(tmp_path / "a.png")
    with pytest.warns(SoftMaskWarning, match=r"a\.png has soft edges: 3\.1%") as caught:
        mask = load_mask(tmp_path / "a.png")
    assert len(caught) == 1
    expected = HOLE.copy()
    expected[0, 3:6] = True
    np.testing.assert_array_equal(mask, expected)


def test_mask_file_of_another_size_names_both(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", HOLE)
    with pytest.raises(ValueError, match=r"a\.png has 12x16 .*its picture 16x12"):
        load_mask(path, size=(16, 12))


@pytest.mark.parametrize(("value", "message"), [(0, "no hole"), (255, "no known pixel")])
def test_mask_file_without_hole_or_known_pixel_is_named(
    tmp_path: Path, value: int, message: str
) -> None:
    Image.new("L", (8, 8), value).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=rf"a\.png has {message}.*polarity=black"):
        load_mask(tmp_path / "a.png")


def test_partly_transparent_mask_is_refused(tmp_path: Path) -> None:
    image = Image.new("RGBA", (8, 8), (255, 255, 255, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    image.save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png is partly transparent"):
        load_mask(tmp_path / "a.png")


def test_mask_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("mask")
    with pytest.raises(UnreadableImageError, match=r"a\.png is not an image"):
        load_mask(tmp_path / "a.png")


@pytest.mark.parametrize(
    "mask",
    [
        HOLE,
        HOLE.astype(np.uint8),
        HOLE.astype(np.int64) * 255,
        HOLE.astype(np.float32),
        HOLE[None, None],
        HOLE[..., None],
        torch.from_numpy(HOLE)[None].float(),
        Image.fromarray(HOLE),
        Image.fromarray(HOLE.astype(np.uint8) * 255).convert("RGB"),
    ],
    ids=lambda mask: f"{type(mask).__name__}",
)
def test_masks_from_arrays_tensors_and_pictures(mask: object) -> None:
    np.testing.assert_array_equal(mask_from_array(mask, size=(12, 16)), HOLE)
    np.testing.assert_array_equal(mask_from_array(mask, polarity="black"), ~HOLE)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((2, 3, 4)), "shape"),
        (np.zeros(5), "shape"),
        (np.full((3, 3), np.nan), "values outside"),
        (-HOLE.astype(float), "values outside"),
        (HOLE * 2.5, "floating-point values up to 2.5"),
        (np.zeros((3, 3)), "no hole"),
    ],
)
def test_arrays_that_are_no_mask_are_refused(mask: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=f"the mask.*{message}"):
        mask_from_array(mask)


def test_unknown_polarity_is_named() -> None:
    with pytest.raises(ValueError, match="polarity='grey': expected white or black"):
        mask_from_array(HOLE, polarity="grey")


def test_folder_masks_are_varied_on_request(tmp_path: Path) -> None:
    hole = np.zeros((8, 8), dtype=bool)
    hole[0, 1:3] = True
    save(tmp_path / "a.png", hole)

    def draws(**settings: object) -> set[bytes]:
        generator = FolderMask(tmp_path, **settings)
        return {generator(8, 8, np.random.default_rng(seed)).tobytes() for seed in range(100)}

    turned = [np.rot90(hole, turn) for turn in range(4)]
    assert draws() == {hole.tobytes()}
    assert draws(rotate=True) == {mask.tobytes() for mask in turned}
    flipped = [hole, hole[::-1], hole[:, ::-1], hole[::-1, ::-1]]
    assert draws(flip=True) == {mask.tobytes() for mask in flipped}
    widened = np.zeros((8, 8), dtype=bool)
    widened[:3, :5] = True
    assert draws(dilate=(2, 2)) == {widened.tobytes()}


def test_folder_masks_turn_whatever_their_shape(tmp_path: Path) -> None:
    hole = np.zeros((6, 10), dtype=np.uint8)
    hole[:2] = 255  # the top third
    Image.fromarray(hole).save(tmp_path / "a.png")
    generator = FolderMask(tmp_path, rotate=True)
    masks = [generator(12, 8, np.random.default_rng(seed)) for seed in range(40)]
    assert {mask.shape for mask in masks} == {(12, 8)}
    thirds = [np.zeros((12, 8), dtype=bool) for _ in range(4)]
    thirds[0][:4] = thirds[1][8:] = True  # upright and upside down
    thirds[2][:, :3] = thirds[3][:, 5:] = True  # a third of 8 columns, to the nearest
    assert {mask.tobytes() for mask in masks} == {third.tobytes() for third in thirds}


def test_folder_mask_that_dilation_would_fill_is_drawn_again(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.arange(8)[None].repeat(8, 0) < 4)
    generator = FolderMask(tmp_path, dilate=(0, 8))
    ratios = {generator(8, 8, np.random.default_rng(seed)).mean() for seed in range(60)}
    assert ratios == {4 / 8, 5 / 8, 6 / 8, 7 / 8}


def test_folder_mask_without_a_hole_is_an_error_at_once(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.zeros((8, 8), dtype=bool))
    with pytest.raises(ValueError, match=r"a\.png has no hole"):
        FolderMask(tmp_path, dilate=(1, 2))(8, 8, np.random.default_rng(0))


def test_folder_of_the_wrong_polarity_warns(tmp_path: Path) -> None:
    save(tmp_path / "a.png", ~HOLE)
    with pytest.warns(InvertedMaskWarning, match=r"covers 85% .*set mask\.polarity=black"):
        FolderMask(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FolderMask(tmp_path, polarity="black")


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    for number in range(0, 12_000, 500):
        save(tmp_path / f"{number:05}.png", HOLE)
    return tmp_path


def test_irregular_test_masks_are_chosen_by_ratio_and_border(packed: Path) -> None:
    def names(**settings: object) -> list[str]:
        return list(IrregularTestMask(packed, **settings).files.names())

    assert len(names()) == 24
    assert names(ratio=(0.2, 0.3)) == ["04000.png", "04500.png", "05000.png", "05500.png"]
    assert names(ratio=(0.01, 0.1), border=True) == ["01000.png", "01500.png"]
    assert names(ratio=(0.4, 0.6), border=False)[1:3] == ["08500.png", "10000.png"]
    mask = IrregularTestMask(packed, polarity="white")(12, 16, np.random.default_rng(0))
    np.testing.assert_array_equal(mask, HOLE)


def test_irregular_test_masks_refuse_other_limits_and_files(packed: Path) -> None:
    with pytest.raises(ValueError, match=r"ratio=\(0\.15, 0\.3\): expected two of"):
        IrregularTestMask(packed, ratio=(0.15, 0.3))
    save(packed / "mask_1.png", HOLE)
    with pytest.raises(ValueError, match=r"mask_1\.png is none of the packed test masks"):
        IrregularTestMask(packed)


def test_irregular_test_masks_say_when_none_is_left(tmp_path: Path) -> None:
    save(tmp_path / "00000.png", HOLE)
    with pytest.raises(FileNotFoundError, match=r"no mask in .* ratio and border asked for"):
        IrregularTestMask(tmp_path, border=True)


@pytest.mark.parametrize("kind", ["rectangle", "freeform", "mixture", "blob", "border"])
def test_hole_ratio_is_kept_for_any_kind(generators: dict[str, MaskGenerator], kind: str) -> None:
    ratio = (0.05, 0.2) if kind == "mixture" else (0.2, 0.5)
    generator = HoleRatioMask(generators[kind], ratio)
    for seed in range(50):
        assert ratio[0] <= generator(64, 64, np.random.default_rng(seed)).mean() <= ratio[1]


def test_hole_ratio_out_of_reach_says_what_is_in_reach() -> None:
    with pytest.raises(ValueError, match=r"CenterMask covers 0\.5 to 0\.6 .* 0\.250 to 0\.250"):
        HoleRatioMask(CenterMask(0.5), (0.5, 0.6))(64, 64, np.random.default_rng(0))
    with pytest.raises(ValueError, match="hole_ratio"):
        HoleRatioMask(CenterMask(0.5), (0.5, 0.4))
