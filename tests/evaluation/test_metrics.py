"""Scores against closed forms, torchmetrics and scikit-image."""

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from csa_inpaint.evaluation.metrics import image_scores


def test_scores_have_their_closed_form() -> None:
    truth, mask = torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
    mask[..., :4] = 1
    scores = image_scores(truth + 0.2 * mask, truth, mask)  # 0.1 of the range in a quarter
    assert scores["l1"].item() == pytest.approx(2.5, rel=1e-4)
    assert scores["l2"].item() == pytest.approx(0.25, rel=1e-4)
    assert scores["psnr"].item() == pytest.approx(-10 * math.log10(0.0025), rel=1e-4)
    assert scores["hole_l1"].item() == pytest.approx(10, rel=1e-4)
    assert scores["hole_psnr"].item() == pytest.approx(20, rel=1e-4)


def test_scores_equal_torchmetrics_per_image() -> None:
    truth, other = (torch.rand(2, 3, 24, 24) * 2 - 1 for _ in range(2))
    scores = image_scores(other, truth, torch.ones(2, 1, 24, 24))
    unit = (other + 1) / 2, (truth + 1) / 2
    psnr = peak_signal_noise_ratio(*unit, data_range=1.0, reduction="none", dim=(1, 2, 3))
    ssim = structural_similarity_index_measure(*unit, data_range=1.0, reduction="none")
    torch.testing.assert_close(scores["psnr"], psnr)
    torch.testing.assert_close(scores["hole_psnr"], psnr)
    torch.testing.assert_close(scores["ssim"], ssim)


def test_scores_of_a_prediction_out_of_range_are_clipped() -> None:
    truth, mask = torch.ones(1, 3, 16, 16), torch.ones(1, 1, 16, 16)
    assert image_scores(truth * 5, truth, mask)["l1"] == 0


def test_scores_are_the_same_under_autocast() -> None:
    ramp = torch.linspace(-0.9, 0.9, 64).expand(1, 3, 64, 64)  # smooth: variances near zero
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    with torch.autocast("cpu", torch.bfloat16):
        scores = image_scores(ramp, ramp, mask)
    assert scores["ssim"].item() == pytest.approx(1)
    assert scores["hole_ssim"].item() == pytest.approx(1)


def test_scores_equal_those_of_scikit_image() -> None:
    y, x = np.mgrid[0:40, 0:48] / 8.0
    truth = np.stack([0.5 + 0.4 * np.sin(x * (c + 1) + y) for c in range(3)], axis=-1)
    mask = np.zeros((40, 48), dtype=bool)
    mask[10:26, 14:30] = True
    prediction = np.where(mask[..., None], truth + 0.2 * np.cos(3 * x + y * y)[..., None], truth)
    prediction = (prediction + 0.02 * np.sin(11 * y - 7 * x)[..., None]).clip(0, 1)
    images = (
        torch.from_numpy(image).permute(2, 0, 1)[None] * 2 - 1 for image in (prediction, truth)
    )
    scores = image_scores(*images, torch.from_numpy(mask)[None, None])
    # Recorded with scikit-image 0.26.0: peak_signal_noise_ratio, mean_squared_error, and
    # structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    # data_range=1, channel_axis=-1, full=True) of the pictures padded by 5 pixels with
    # numpy.pad(mode="reflect"); over the hole the mean of its map.
    recorded = {
        "l1": 2.750197600337662,
        "l2": 0.2707393620850551,
        "psnr": 25.674485987045728,
        "ssim": 0.9066117270897625,
        "hole_l1": 12.353212038910467,
        "hole_l2": 1.9006396563652046,
        "hole_psnr": 17.211002135323824,
        "hole_ssim": 0.5257278935070397,
    }
    assert {name: value.item() for name, value in scores.items()} == pytest.approx(
        recorded, abs=1e-6
    )


def test_float64_scores_round_less_than_float32_ones() -> None:
    truth, mask = torch.zeros(1, 3, 16, 16, dtype=torch.float64), torch.ones(1, 1, 16, 16)
    scores = image_scores(truth + 0.2, truth, mask)
    assert scores["l1"].item() == pytest.approx(10, rel=1e-14)
    assert scores["psnr"].item() == pytest.approx(20, rel=1e-14)
