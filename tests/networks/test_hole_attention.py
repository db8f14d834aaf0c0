"""Contextual attention in the place of the CSA layer."""

import pytest
import torch

from csa_inpaint.networks.contextual_attention import ContextualAttention
from csa_inpaint.networks.hole_attention import HoleContextualAttention


def test_hole_features_are_attended_and_known_ones_stay() -> None:
    torch.manual_seed(0)
    features, mask = torch.randn(2, 4, 16, 16), torch.zeros(2, 1, 128, 128)
    mask[0, :, 32:80, 32:64] = 1
    layer = HoleContextualAttention(exclude_hole=True, fuse=1)
    made = layer(features, mask)
    hole = mask[..., ::8, ::8] > 0
    inside = hole.expand_as(features)
    assert torch.equal(made[~inside], features[~inside])
    expected = ContextualAttention(exclude_hole=True, fuse=1)(features, hole.float())
    assert torch.equal(made[inside], expected[inside])
    assert not torch.equal(made[inside], features[inside])
    other = HoleContextualAttention(exclude_hole=False, fuse=1)(features, mask)
    assert not torch.allclose(made[inside], other[inside])


def test_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="threshold"):
        HoleContextualAttention(1.0)
    with pytest.raises(ValueError, match="rate=3"):
        HoleContextualAttention(rate=3)
