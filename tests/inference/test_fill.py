"""What the network is shown of a picture, and what becomes of its predictions."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from csa_inpaint.inference import inpaint
from csa_inpaint.inference.fill import MemoryWarning
from csa_inpaint.inference.network import Network
from csa_inpaint.types import Inpainting

STRATEGIES = ("crop", "resize", "full")
BLENDS = ("hard", "feather", "poisson")


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def holes(height: int, width: int, kind: str) -> np.ndarray:
    hole = np.zeros((height, width), dtype=bool)
    if kind == "block":
        hole[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = True
    elif kind == "corner":
        hole[height // 2 :, width // 2 :] = True
    elif kind == "line":
        for column in range(width):
            hole[column * height // width, column] = True
    elif kind == "dots":
        hole[::7, ::11] = True
    elif kind == "stripe":
        hole[height // 3 : 2 * height // 3] = True
    elif kind == "all but one":
        hole[:] = True
        hole[height // 3, width // 5] = False
    return hole


@pytest.mark.parametrize("kind", ["block", "corner", "line", "dots", "stripe", "all but one"])
@pytest.mark.parametrize("size", [(150, 210), (40, 300), (31, 33), (65, 64)])
def test_fill_changes_holes_alone_at_any_size(
    make_painter: Callable[..., Any], size: tuple[int, int], kind: str
) -> None:
    pixels, hole = picture(*size), holes(*size, kind)
    for strategy, blend in itertools.product(STRATEGIES, BLENDS):
        painter = make_painter()
        filled = inpaint(painter, pixels, hole, size=32, size_strategy=strategy, blend=blend)
        assert np.array_equal(filled[~hole], pixels[~hole])
        assert not np.array_equal(filled[hole], pixels[hole])
        for image, mask in painter.seen:
            assert (image.masked_select((mask > 0.5).expand_as(image)) == 0).all()
            if strategy != "full":
                assert max(image.shape[-2:]) <= 32


@pytest.mark.parametrize("kind", ["block", "corner", "stripe", "dots"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_fill_never_looks_at_hidden_pixels_at_any_size(
    make_module: Callable[..., Any], kind: str, strategy: str
) -> None:
    model = make_module()
    image = torch.rand(3, 140, 170, generator=torch.Generator().manual_seed(3)) * 2 - 1
    mask = torch.from_numpy(holes(140, 170, kind))
    settings = {"size": 64, "size_strategy": strategy}
    expected = inpaint(model, image, mask, **settings)
    assert expected.isfinite().all()
    hidden = image.masked_fill(mask, torch.nan)
    assert torch.equal(inpaint(model, hidden, mask, **settings), expected)


@pytest.mark.parametrize("depth", [3, 4])
def test_small_picture_with_hard_blend_is_the_models_composite(
    make_module: Callable[..., Any], depth: int
) -> None:
    model = make_module(depth=depth, attention_levels=(1,), feature_levels=(1,))
    image = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(3)) * 2 - 1
    mask = torch.zeros(1, 1, 48, 64)
    mask[..., 10:40, 20:44] = 1
    with torch.no_grad():
        expected = model(image, mask).composite.clamp(-1, 1)
    for strategy in STRATEGIES:
        filled = inpaint(
            model, image, mask, size=64, size_strategy=strategy, blend="hard", detail=0
        )
        assert torch.equal(filled, expected)


def test_pictures_are_computed_in_full_under_autocast(make_painter: Callable[..., Any]) -> None:
    pixels, hole = picture(128, 128), holes(128, 128, "block")
    expected = inpaint(make_painter(), pixels, hole, size=48)
    with torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(inpaint(make_painter(), pixels, hole, size=48), expected)


def test_detail_is_added_to_the_hole_of_a_small_picture(make_painter: Callable[..., Any]) -> None:
    pixels, hole = picture(128, 128), holes(128, 128, "block")
    plain, half, detailed = (
        inpaint(make_painter(), pixels, hole, size=128, blend="hard", detail=share).astype(float)
        for share in (0, 0.5, 1)
    )
    inner = np.s_[48:80, 48:80]  # a blend does not reach there
    assert plain[inner].std() == 0
    assert 0.8 * pixels.std() < detailed[inner].std() < 1.2 * pixels.std()
    assert 0.4 * pixels.std() < half[inner].std() < 0.6 * pixels.std()


@pytest.mark.parametrize("factor", [1, 5])
def test_poisson_meets_a_picture_that_the_network_paints_too_dark(
    make_painter: Callable[..., Any], factor: int
) -> None:
    pixels = np.full((200, 300, 3), 160, dtype=np.uint8)
    hole = np.zeros((200, 300), dtype=bool)
    side = 16 * factor
    hole[60 : 60 + side, 100 : 100 + side] = True
    filled = inpaint(make_painter(), pixels, hole, size=32)
    assert np.abs(filled.astype(int) - 160).max() <= 2
    hard = inpaint(make_painter(), pixels, hole, size=32, blend="hard")
    middle = hard[60 + side // 2, 100 + side // 2]
    assert np.abs(middle.astype(int) - 64).max() <= 2


@pytest.mark.parametrize(
    ("strategy", "windows"),
    [("crop", {(32, 32)}), ("resize", {(24, 32)}), ("full", {(64, 64), (200, 304)})],
)
def test_fill_shows_the_network_its_scale(
    make_painter: Callable[..., Any], strategy: str, windows: set[tuple[int, int]]
) -> None:
    painter = make_painter()
    hole = np.zeros((200, 300), dtype=bool)
    hole[60:140, 100:180] = True
    inpaint(painter, picture(200, 300), hole, size=32, size_strategy=strategy)
    # `full` measures its memory on a small image first.
    assert set(painter.windows) == windows


def test_fill_shows_a_hole_in_the_middle_of_a_window_as_large_as_in_training(
    make_painter: Callable[..., Any],
) -> None:
    painter = make_painter()
    hole = np.zeros((200, 300), dtype=bool)
    hole[60:140, 100:180] = True
    inpaint(painter, picture(200, 300), hole, size=32)
    ((_, mask),) = painter.seen
    expected = torch.zeros(1, 1, 32, 32)
    expected[..., 8:24, 8:24] = 1
    assert torch.equal(mask, expected)


def test_fill_mirrors_a_hole_with_its_picture(make_painter: Callable[..., Any]) -> None:
    painter = make_painter()
    hole = np.zeros((30, 44), dtype=bool)
    hole[28:, 40:42] = True
    inpaint(painter, picture(30, 44), hole, size=64)
    ((image, mask),) = painter.seen
    assert torch.equal(mask[..., 30:32, :], mask[..., [28, 27], :])
    assert torch.equal(mask[..., 44:48], mask[..., [42, 41, 40, 39]])
    assert torch.equal(image[..., 44:48], image[..., [42, 41, 40, 39]])
    assert mask[..., 44:].any()
    assert mask[..., 30:, :].any()


def test_fill_computes_a_batch_of_windows_at_a_time(make_painter: Callable[..., Any]) -> None:
    pixels, hole = picture(200, 300), holes(200, 300, "line")
    results = []
    for batch_size in (1, 3, 100):
        painter = make_painter()
        results.append(inpaint(painter, pixels, hole, size=32, batch_size=batch_size))
        batches = [len(image) for image, _ in painter.seen]
        assert max(batches) == min(batch_size, sum(batches))
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_fill_leaves_out_windows_without_a_hole(make_painter: Callable[..., Any]) -> None:
    painter = make_painter()
    hole = np.zeros((300, 300), dtype=bool)
    hole[np.arange(300), np.arange(300)] = True
    inpaint(painter, picture(300, 300), hole, size=32)
    # A core of 24 pixels: 13 windows along each axis, of which those at the diagonal are needed.
    assert 13 <= len(painter.windows) <= 3 * 13


def test_fill_passes_smoothly_from_window_to_window(make_painter: Callable[..., Any]) -> None:
    painter = make_painter()

    def brighter(image: torch.Tensor, mask: torch.Tensor) -> Inpainting:
        painted = torch.linspace(-0.8, 0.8, len(image))[:, None, None, None].expand_as(image)
        return Inpainting(painted, painted, painted, {})

    painter.forward = brighter
    hole = np.zeros((40, 300), dtype=bool)
    hole[12:28, 20:280] = True
    filled = inpaint(
        painter, picture(40, 300), hole, size=32, blend="hard", detail=0, batch_size=100
    ).astype(int)
    steps = np.diff(filled[20, 20:280, 0])
    assert steps.min() >= -1  # each window is brighter than the one before it, but for rounding
    assert steps.max() <= 4
    assert filled[20, 20, 0] < 30
    assert filled[20, 279, 0] > 225


def test_fill_takes_the_size_that_the_model_says(make_painter: Callable[..., Any]) -> None:
    hole = np.zeros((200, 300), dtype=bool)
    hole[60:140, 100:180] = True
    painter = make_painter(size=64)
    inpaint(painter, picture(200, 300), hole)
    assert set(painter.windows) == {(64, 64)}
    painter = make_painter()
    inpaint(painter, picture(200, 300), hole)
    assert set(painter.windows) == {(200, 256)}


class OutOfMemory:
    """A forward that has memory for small images only."""

    def __init__(self, painter: Any, error: Exception) -> None:
        self.forward = painter.forward
        self.error = error

    def __call__(self, image: torch.Tensor, mask: torch.Tensor) -> Any:
        if image.shape[-1] > 64:
            raise self.error
        return self.forward(image, mask)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_full_falls_back_to_crop_where_memory_does_not_do(
    make_painter: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    painter = make_painter()
    pixels, hole = picture(100, 150), holes(100, 150, "block")
    expected = inpaint(painter, pixels, hole, size=32)
    monkeypatch.setattr(painter, "forward", OutOfMemory(painter, error))
    with pytest.warns(MemoryWarning, match=r"150x100 pixels .* size_strategy=crop"):
        filled = inpaint(painter, pixels, hole, size=32, size_strategy="full")
    assert np.array_equal(filled, expected)


def test_full_is_not_tried_where_it_needs_more_memory_than_is_free(
    make_painter: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    painter = make_painter()
    needed = Network(painter, 1).memory_needed(100, 150)
    assert needed >= 3 * 4 * 100 * 150  # the output of its one layer
    painter.seen.clear()
    monkeypatch.setattr(Network, "memory_available", lambda self: needed - 1)
    with pytest.warns(MemoryWarning, match="GB are free"):
        inpaint(painter, picture(100, 150), holes(100, 150, "block"), size=32, size_strategy="full")
    assert (100, 152) not in painter.windows
    assert (32, 32) in painter.windows


def test_another_error_is_not_taken_for_lack_of_memory(
    make_painter: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    painter = make_painter()
    monkeypatch.setattr(painter, "forward", OutOfMemory(painter, RuntimeError("of another kind")))
    with pytest.raises(RuntimeError, match="of another kind"):
        inpaint(painter, picture(100, 150), holes(100, 150, "block"), size=32, size_strategy="full")


def test_prediction_that_is_not_finite_is_refused(make_painter: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"not finite, in torch\.float32"):
        inpaint(make_painter(colour=float("nan")), picture(40, 40), holes(40, 40, "block"))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("size", 0),
        ("batch_size", 0),
        ("detail", 1.5),
        ("detail", -1),
        ("blend", "soft"),
        ("size_strategy", "tile"),
    ],
)
def test_setting_out_of_range_is_named(
    make_painter: Callable[..., Any], setting: str, value: object
) -> None:
    with pytest.raises(ValueError, match=f"{setting}={value!r}"):
        inpaint(make_painter(), picture(40, 40), holes(40, 40, "block"), **{setting: value})
