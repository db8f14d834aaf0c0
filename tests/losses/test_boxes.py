"""Boxes around holes, and the discounted loss in them."""

import pytest
import torch
from recorded import PER_LAYER, error, needs_recorded, recorded

from csa_inpaint.losses import DiscountedReconstruction, Step
from csa_inpaint.losses.boxes import crop, hole_boxes
from csa_inpaint.losses.discounted import discount
from csa_inpaint.types import Batch, Inpainting


@needs_recorded
def test_discount_reproduces_recorded_weights() -> None:
    expected = recorded("contextual_attention")["discount_128"][0, 0]
    assert error(discount(128, 0.9), expected) <= PER_LAYER


def test_discount_falls_from_the_border_to_the_middle() -> None:
    weights = discount(4, 0.5)
    expected = torch.tensor(
        [[1.0] * 4, [1, 0.5, 0.5, 0.5], [1, 0.5, 0.25, 0.5], [1, 0.5, 0.5, 0.5]]
    )
    assert torch.equal(weights, expected)


def test_boxes_hold_their_hole_and_lie_in_the_image() -> None:
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(40, 1, 20, 28)
    for sample in mask:
        top, left, height, width = (
            int(torch.randint(low, high, (1,), generator=generator))
            for low, high in ((0, 20), (0, 28), (1, 9), (1, 9))
        )
        sample[:, top : top + height, left : left + width] = 1
    boxes = hole_boxes(mask, 9)
    assert crop(mask, boxes, 9).sum() == mask.sum()
    assert all(0 <= top <= 11 and 0 <= left <= 19 for top, left in boxes)
    assert len(set(boxes)) > 10


def test_boxes_are_in_the_middle_of_their_hole() -> None:
    mask = torch.zeros(3, 1, 20, 20)
    mask[0, :, 6:10, 4:16] = 1
    mask[1] = 1  # larger than the box
    assert hole_boxes(mask, 8) == [(4, 6), (6, 6), (6, 6)]
    with pytest.raises(ValueError, match="a box of 21 pixels does not fit an image side of 20"):
        hole_boxes(mask, 21)


def test_discounted_term_looks_at_its_image_in_the_box() -> None:
    truth, mask = torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
    mask[..., 6:10, 6:10] = 1
    rough, refined = torch.full_like(truth, 2.0), torch.zeros_like(truth)
    refined[..., 4, 4], refined[..., 8, 8], refined[..., 0, 0] = 1, 1, 1
    step = Step(Batch(truth, mask, ["a"]), Inpainting(rough, refined, refined, {}))
    # A corner of the box of 8×8 weighs 1, its middle γ⁴; the image's corner lies outside.
    value = DiscountedReconstruction("l1", size=8, gamma=0.5).loss(step)
    torch.testing.assert_close(value, torch.tensor((1 + 0.5**4) / 64))
    value = DiscountedReconstruction("l1", image="rough", size=8, gamma=1).loss(step)
    torch.testing.assert_close(value, torch.tensor(2.0))
    with pytest.raises(ValueError, match=r"l1\.gamma=1\.5"):
        DiscountedReconstruction("l1", gamma=1.5)
    with pytest.raises(ValueError, match=r"l1\.image='fine'"):
        DiscountedReconstruction("l1", image="fine")  # type: ignore[arg-type]
