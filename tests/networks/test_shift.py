"""The shift against recorded vectors, a plain loop, and as an attention layer."""

import pytest
import torch
from recorded import PER_LAYER, below, error, needs_recorded, recorded
from torch import Tensor

from csa_inpaint.losses import guidance_loss
from csa_inpaint.networks.shift import Shift, ShiftAttention


@needs_recorded
@pytest.mark.parametrize(("number", "weight"), [(0, 1.0), (1, 1.0), (2, 0.5), (3, 1.0)])
def test_shift_and_guidance_reproduce_recorded_vectors(number: int, weight: float) -> None:
    case = below(recorded("shift_layer"), f"{number}.")
    x = case["x"].requires_grad_()
    decoder, encoder = x.chunk(2, dim=1)
    hole = case["feature_mask"].float()
    y = torch.cat([x, Shift(weight)(decoder, encoder, hole)], dim=1)
    (gradient,) = torch.autograd.grad((y * case["u"]).sum(), x)
    target = case["truth_x"].chunk(2, dim=1)[1]
    # The recorded guidance also has the squares of the target at known positions.
    known = (target * (1 - hole)).square().mean()
    guidance = guidance_loss(decoder, target, hole) + known
    found = {
        "y": error(y, case["y"]),
        "gradient": error(gradient, case["grad"]),
        "guidance": error(guidance, case["guidance"]),
    }
    (of_guidance,) = torch.autograd.grad(guidance, x)
    inside = hole.expand_as(x) > 0
    found["in the hole"] = error(of_guidance[inside], case["guidance_grad"][inside])
    print(f"shift {number}: {found}")  # pytest -s shows it
    assert max(found.values()) <= PER_LAYER, found
    assert of_guidance[~inside].abs().max() == 0  # the recorded gradient is not zero there


def by_loop(decoder: Tensor, encoder: Tensor, hole: Tensor) -> Tensor:
    made = torch.zeros_like(encoder)
    for sample, (d, e, m) in enumerate(zip(decoder, encoder, hole[:, 0] > 0.5, strict=True)):
        known = (~m).nonzero().tolist()
        for y, x in m.nonzero().tolist():
            if known:
                likeness = torch.stack(
                    [torch.cosine_similarity(d[:, y, x], e[:, i, j], dim=0) for i, j in known]
                )
                i, j = known[int(likeness.argmax())]
                made[sample, :, y, x] = e[:, i, j]
    return made


def test_shift_is_the_plain_loop_for_holes_of_different_sizes() -> None:
    torch.manual_seed(0)
    decoder, encoder = torch.randn(2, 4, 5, 6, 7, dtype=torch.float64)
    hole = torch.zeros(4, 1, 6, 7)
    hole[0, :, 1:3, 2:5] = 1  # 1 has no hole
    hole[2] = 1  # nothing is known
    hole[3, :, :5] = 1
    assert torch.equal(Shift()(decoder, encoder, hole), by_loop(decoder, encoder, hole))


def test_shift_gives_its_gradient_to_the_source_alone() -> None:
    decoder, encoder = torch.zeros(2, 1, 2, 2, 2)
    encoder[0, :, 0, 0] = torch.tensor([1.0, 0.0])
    encoder[0, :, 0, 1] = torch.tensor([0.0, 2.0])
    decoder[0, :, 1, 1] = torch.tensor([0.1, 1.0])
    decoder.requires_grad_(), encoder.requires_grad_()
    hole = torch.zeros(1, 1, 2, 2)
    hole[..., 1, 1] = 1
    made = Shift(0.5)(decoder, encoder, hole)
    assert made[0, :, 1, 1].tolist() == [0, 2]
    made.sum().backward()
    assert decoder.grad is None
    assert encoder.grad is not None
    assert encoder.grad[0].sum(0).tolist() == [[0, 1], [0, 0]]


def test_shift_of_zero_vectors_is_finite() -> None:
    decoder, encoder = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    hole = torch.zeros(1, 1, 4, 4)
    hole[..., 1:3, 1:3] = 1
    assert torch.equal(Shift()(decoder, encoder, hole), torch.zeros(1, 3, 4, 4))


def test_shift_attention_replaces_hole_features_by_known_ones() -> None:
    torch.manual_seed(0)
    features, mask = torch.randn(2, 4, 8, 8), torch.zeros(2, 1, 64, 64)
    mask[0, :, 16:40, 16:40] = 1
    mask[1] = 1  # nothing is known, so the sample stays
    made = ShiftAttention()(features, mask)
    hole = mask[..., ::8, ::8] > 0
    assert torch.equal(made[1], features[1])
    known = ~hole[0].expand_as(features[0])
    assert torch.equal(made[0][known], features[0][known])
    expected = by_loop(features[:1], features[:1], hole[:1].float())
    assert torch.equal(made[0][~known], expected[0][~known])
    with pytest.raises(ValueError, match="threshold"):
        ShiftAttention(1.5)
