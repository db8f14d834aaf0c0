import numpy as np
import pytest
import torch
from PIL import Image

from csa_inpaint.data import Augment, CenterCrop, RandomCrop, View
from csa_inpaint.data.transforms import show, to_tensor


def views(transform: RandomCrop, picture: tuple[int, int], size: tuple[int, int]) -> list[View]:
    return [transform(picture, size, np.random.default_rng(seed)) for seed in range(300)]


def sides(view: View) -> tuple[float, float]:
    left, top, right, bottom = view.box
    return bottom - top, right - left


def test_random_crop_at_own_resolution_reaches_every_offset() -> None:
    found = views(RandomCrop(), (6, 8), (4, 5))
    assert {view.box[1] for view in found} == {0, 1, 2}
    assert {view.box[0] for view in found} == {0, 1, 2, 3}
    assert {sides(view) for view in found} == {(4, 5)}
    assert {view.flip for view in found} == {True, False}


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_random_crop_flips_with_the_given_probability(flip: float) -> None:
    assert {view.flip for view in views(RandomCrop(flip=flip), (9, 9), (4, 4))} == {bool(flip)}


def test_random_crop_scale_stays_in_its_range_and_inside_the_picture() -> None:
    found = views(RandomCrop(resize=(1, 2)), (256, 512), (64, 64))
    heights = [sides(view)[0] for view in found]
    assert 128 <= min(heights) < 140
    assert 240 < max(heights) <= 256
    for view in found:
        left, top, right, bottom = view.box
        assert 0 <= left < right <= 512
        assert 0 <= top < bottom <= 256


def test_random_crop_never_enlarges_a_large_enough_picture() -> None:
    for view in views(RandomCrop(resize=(1, 4)), (100, 100), (64, 64)):
        assert min(sides(view)) >= 64 - 1e-9
    (view,) = set(views(RandomCrop(resize=(3, 4), flip=0), (64, 64), (64, 64)))
    assert view.box == (0, 0, 64, 64)


def test_center_crop_takes_the_middle_at_the_short_side() -> None:
    rng = np.random.default_rng(0)
    assert CenterCrop()((100, 300), (50, 50), rng) == View((100, 0, 200, 100), flip=False)
    assert CenterCrop()((300, 100), (50, 50), rng) == View((0, 100, 100, 200), flip=False)
    assert CenterCrop(resize=False)((100, 300), (50, 60), rng) == View((120, 25, 180, 75), False)


def test_center_crop_of_another_shape_fits_inside_the_picture() -> None:
    view = CenterCrop()((100, 100), (32, 64), np.random.default_rng(0))
    assert view.box == (0, 25, 100, 75)


def test_central_square_is_cut_out_first() -> None:
    rng = np.random.default_rng(0)
    box = (0, 20, 178, 198)  # CelebA's 178x218 faces
    assert CenterCrop(central=178)((218, 178), (256, 256), rng).box == box
    assert RandomCrop(resize=(1, 1), central=178)((218, 178), (128, 128), rng).box == box
    for view in views(RandomCrop(resize=(1, 2), central=100), (218, 178), (32, 32)):
        left, top, right, bottom = view.box
        assert left >= 39
        assert top >= 59
        assert right <= 139
        assert bottom <= 159


def test_show_copies_pixels_at_own_resolution_and_mirrors() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    view = View((2, 1, 6, 6), flip=True)
    shown = np.asarray(show(Image.fromarray(pixels), view, (5, 4)))
    np.testing.assert_array_equal(shown, pixels[1:6, 2:6][:, ::-1])


def test_show_averages_when_it_shrinks() -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255  # sampling without antialiasing would give 0 or 255
    shown = np.asarray(show(Image.fromarray(stripes), View((0, 0, 64, 64), False), (8, 8)))
    assert shown.shape == (8, 8, 3)
    np.testing.assert_allclose(shown[2:6, 2:6], 127, atol=3)


def test_to_tensor_puts_channels_first() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    tensor = to_tensor(Image.fromarray(pixels))
    assert tensor.is_contiguous()
    np.testing.assert_array_equal(tensor, pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("settings", [{"resize": (0.5, 1)}, {"resize": (2, 1)}, {"flip": 1.5}])
def test_random_crop_refuses_settings_out_of_range(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        RandomCrop(**settings)


PICTURE = (
    torch.from_numpy(np.random.default_rng(0).integers(40, 200, (3, 8, 8), dtype=np.uint8))
    .repeat_interleave(4, 1)
    .repeat_interleave(4, 2)
)


@pytest.mark.parametrize(
    "settings",
    [
        {"color_jitter": {"brightness": 0.4, "hue": 0.1}},
        {"affine": {"degrees": 20, "translate": [0.1, 0.1], "scale": [0.9, 1.1], "shear": 5}},
    ],
)
def test_augment_depends_on_its_seed_alone(settings: dict[str, dict[str, object]]) -> None:
    augment = Augment(**settings)
    state = torch.get_rng_state()
    one = augment(PICTURE, 1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(7)
    assert torch.equal(augment(PICTURE, 1), one)
    assert not torch.equal(augment(PICTURE, 2), one)
    assert not torch.equal(one, PICTURE)
    assert one.shape == PICTURE.shape
    assert one.dtype == torch.uint8


def test_augment_without_settings_changes_nothing() -> None:
    assert torch.equal(Augment()(PICTURE, 1), PICTURE)


def test_affine_mirrors_at_the_borders() -> None:
    augment = Augment(affine={"degrees": 45, "scale": [0.75, 0.75]})
    for seed in range(20):
        assert augment(PICTURE, seed).min() >= 40  # black would come from outside the picture


@pytest.mark.parametrize(
    "affine", [{"scale": [0.4, 1]}, {"degrees": 90, "scale": [0.7, 1]}, {"translate": [0.6, 0]}]
)
def test_affine_that_shows_too_much_is_refused(affine: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"data\.augment\.affine .* outside the picture"):
        Augment(affine=affine)
