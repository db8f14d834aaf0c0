"""LPIPS and KID against recorded values and plain formulas; gaps for missing weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision.models import alexnet, inception_v3

from csa_inpaint.evaluation.perceptual import (
    LPIPS,
    Inception,
    hole_crop,
    kernel_distance,
    load_judges,
)
from csa_inpaint.evaluation.records import decode, encode

WEIGHTS = Path(__file__).parents[3] / "shared" / "weights"
RECORDED = 0.19173765182495117
NO_WEIGHTS = {
    "lpips_alex": {"backbone": None, "heads": None},
    "lpips_vgg": {"backbone": None, "heads": None},
    "inception": None,
}


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    """A file of an untrained AlexNet's convolutions, as torchvision names them."""
    torch.manual_seed(0)
    state = {f"features.{key}": value for key, value in alexnet().features.state_dict().items()}
    save_file(state, tmp_path / "alexnet.safetensors")
    return tmp_path / "alexnet.safetensors"


def pair() -> tuple[Tensor, Tensor]:
    """A prediction with a grey rectangle, and its truth: (1, 3, 64, 64) each."""
    y, x = np.mgrid[0:64, 0:64] / 8.0
    truth = torch.from_numpy(np.stack([0.8 * np.sin(x * (c + 1) + y) for c in range(3)]))[None]
    hole = torch.from_numpy((x > 3) & (x < 6) & (y > 2) & (y < 7))
    return torch.where(hole, 0.1, truth.float()), truth.float()


@torch.no_grad()
def plain_lpips(
    state: dict[str, Tensor], heads: list[Tensor], pair: tuple[Tensor, Tensor]
) -> float:
    """Zhang et al. (2018), equation 1, layer by layer."""
    features = alexnet().features
    features.load_state_dict({key.removeprefix("features."): v for key, v in state.items()})
    shift = torch.tensor([-0.030, -0.088, -0.188])[:, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450])[:, None, None]
    x, y = ((image - shift) / scale for image in pair)
    total = 0.0
    weights = iter(heads)
    for layer in features:
        x, y = layer(x), layer(y)
        if isinstance(layer, torch.nn.ReLU):
            units = [z / (z.square().sum(1, keepdim=True) + 1e-8).sqrt() for z in (x, y)]
            squared = (units[0] - units[1]).square()
            total += float((squared * next(weights)[None, :, None, None]).sum(1).mean())
    return total


def test_lpips_follows_its_equation(backbone: Path, tmp_path: Path) -> None:
    heads = [torch.rand(channels) for channels in (64, 192, 384, 256, 256)]
    file = tmp_path / "heads.safetensors"
    save_file({f"lin{i}.model.1.weight": h[None, :, None, None] for i, h in enumerate(heads)}, file)
    expected = plain_lpips(load_file(backbone), heads, pair())
    assert LPIPS("alex", backbone, file)(*pair()).item() == pytest.approx(expected, rel=1e-5)


def test_lpips_is_zero_of_equal_pictures_and_per_picture(backbone: Path) -> None:
    lpips = LPIPS("alex", backbone)
    prediction, truth = pair()
    both = lpips(torch.cat([prediction, truth]), torch.cat([truth, truth]))
    assert both.shape == (2,)
    assert both[1] == 0
    assert both[0] == pytest.approx(lpips(prediction, truth).item(), rel=1e-5)


def test_predictions_out_of_range_are_clipped(backbone: Path) -> None:
    lpips = LPIPS("alex", backbone)
    prediction, truth = pair()
    assert lpips(5 * prediction, truth) == lpips((5 * prediction).clamp(-1, 1), truth)
    embedded = (lpips.embed(image) for image in (5 * prediction, (5 * prediction).clamp(-1, 1)))
    assert torch.equal(*embedded)


@pytest.mark.slow
def test_inception_reads_its_file(tmp_path: Path) -> None:
    pytest.importorskip("torch_fidelity")
    torch.manual_seed(0)
    network = inception_v3(init_weights=False, aux_logits=False)
    torch.save(network.state_dict(), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth is no Inception-v3 of torch-fidelity"):
        Inception(tmp_path / "other.pth")
    network.fc = torch.nn.Linear(2048, 1008)  # as many classes as the network of 2015 has
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    weights = {**NO_WEIGHTS, "inception": str(tmp_path / "inception.pth")}
    _, networks, gaps = load_judges(weights, (64, 64))
    assert "kid_inception" not in gaps
    prediction, truth = pair()
    features = networks["kid_inception"].embed(torch.cat([prediction, truth, truth]))
    assert features.shape == (3, 2048)
    assert torch.equal(features[1], features[2])
    assert not torch.equal(features[0], features[1])


@pytest.mark.shared
@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="needs ../shared/weights")
def test_lpips_equals_the_reference_package() -> None:
    files = WEIGHTS / "alexnet_features_fp16.safetensors", WEIGHTS / "lpips_lin_alex.safetensors"
    # Recorded with lpips 0.1.4 and the same weights.
    assert LPIPS("alex", *files)(*pair()).item() == pytest.approx(RECORDED, abs=1e-6)
    assert LPIPS("alex", files[0])(*pair()).item() == pytest.approx(RECORDED, abs=1e-6)


@pytest.mark.shared
@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="needs ../shared/weights")
def test_vgg_that_ends_early_is_a_gap() -> None:
    file = WEIGHTS / "vgg16_relu4_3_fp16.safetensors"
    weights = {**NO_WEIGHTS, "lpips_vgg": {"backbone": str(file), "heads": None}}
    lpips, _, gaps = load_judges(weights, (64, 64))
    assert lpips == {}
    assert "features.24.weight" in gaps["lpips_vgg"]
    assert file.name in gaps["lpips_vgg"]


def test_missing_weights_are_named_gaps() -> None:
    lpips, networks, gaps = load_judges(NO_WEIGHTS, (64, 64))
    assert not lpips
    assert not networks
    assert set(gaps) == {"lpips_alex", "lpips_vgg", "kid_alex", "kid_inception"}
    assert "weights.lpips_vgg.backbone" in gaps["lpips_vgg"]
    assert "weights.inception" in gaps["kid_inception"]


def test_alexnet_gives_lpips_and_kid(backbone: Path) -> None:
    weights = {**NO_WEIGHTS, "lpips_alex": {"backbone": str(backbone), "heads": None}}
    lpips, networks, gaps = load_judges(weights, (64, 64))
    assert set(lpips) == {"lpips_alex"}
    assert set(networks) == {"kid_alex"}
    assert set(gaps) == {"lpips_vgg", "kid_inception"}
    assert networks["kid_alex"].embed(torch.zeros(2, 3, 64, 64)).shape == (2, 256)


def test_small_pictures_are_a_gap(backbone: Path) -> None:
    weights = {**NO_WEIGHTS, "lpips_alex": {"backbone": str(backbone), "heads": None}}
    assert "16x64" in load_judges(weights, (16, 64))[2]["lpips_alex"]


def test_file_of_another_network_is_refused(tmp_path: Path, backbone: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"layer.weight": torch.zeros(2)}, other)
    with pytest.raises(ValueError, match=r"other\.safetensors holds no AlexNet"):
        LPIPS("alex", other)
    with pytest.raises(ValueError, match=r"alexnet\.safetensors holds no heads of LPIPS"):
        LPIPS("alex", backbone, backbone)
    with pytest.raises(ValueError, match=r"features\.0\.weight is \(64, 3, 11, 11\)"):
        LPIPS("vgg", _with_all_keys(backbone, tmp_path))


def _with_all_keys(backbone: Path, folder: Path) -> Path:
    """AlexNet's tensors under all the names that VGG-16 has."""
    state = load_file(backbone)
    for number in (2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28):
        state |= {
            f"features.{number}.weight": torch.zeros(1),
            f"features.{number}.bias": torch.zeros(1),
        }
    save_file(state, folder / "keys.safetensors")
    return folder / "keys.safetensors"


def test_kernel_distance_has_its_closed_form() -> None:
    x, y = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    # k(a, b) = (a · b / 2 + 1)³: within x and y 1, between them 1.5³ and 1.
    assert kernel_distance(x, y) == pytest.approx(1 + 1 - 2 * (1.5**3 + 1 + 1.5**3 + 1) / 4)


def test_kernel_distance_of_many_is_the_mean_over_blocks() -> None:
    torch.manual_seed(0)
    x, y = torch.rand(8, 5), torch.rand(8, 5)
    parts = [kernel_distance(x[i : i + 4], y[i : i + 4]) for i in (0, 4)]
    assert kernel_distance(x, y, block=4) == pytest.approx(sum(parts) / 2)
    assert kernel_distance(x, y) != pytest.approx(sum(parts) / 2)


def test_kernel_distance_of_one_is_undefined() -> None:
    assert np.isnan(kernel_distance(torch.ones(1, 3), torch.ones(1, 3)))


def test_crop_holds_the_hole_and_stays_in_the_picture() -> None:
    mask = torch.zeros(1, 200, 100, dtype=torch.bool)
    mask[0, 190:195, 3:7] = True
    rows, columns = hole_crop(mask)
    assert (rows, columns) == (slice(136, 200), slice(0, 64))
    mask[0, 20, 90] = True
    assert hole_crop(mask) == (slice(20, 195), slice(3, 91))
    assert hole_crop(torch.ones(1, 40, 90)) == (slice(0, 40), slice(0, 90))


def test_features_survive_as_text() -> None:
    vectors = torch.randn(3, 7)
    assert torch.equal(decode(encode(vector) for vector in vectors), vectors)
