"""The frozen VGG-16: the source of its weights, and that no training changes or saves them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import VGG16_Weights

from csa_inpaint.networks.vgg import VGG16Features

WEIGHTS = Path(__file__).parents[3] / "shared" / "weights" / "vgg16_relu4_3_fp16.safetensors"


def image(seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_vgg_random_is_the_same_every_time_and_scaled() -> None:
    torch.manual_seed(0)
    first = VGG16Features("random", width=16)(image())
    torch.manual_seed(1)
    second = VGG16Features("random", width=16)(image())
    assert first.pool3.shape == (1, 64, 4, 4)
    assert first.relu[3].shape == (1, 128, 4, 4)
    assert torch.equal(first.relu[3], second.relu[3])
    # the signal neither dies nor explodes
    assert 0.1 < first.relu[3].std() < 10


def test_vgg_pools_are_the_first_part() -> None:
    vgg = VGG16Features("random", width=4)
    part, whole = vgg.pools(image()), vgg(image())
    assert part.pool.keys() == whole.pool.keys() == {1, 2, 3}
    assert all(torch.equal(part.pool[n], whole.pool[n]) for n in whole.pool)
    assert part.relu == {}


def test_vgg_level_is_the_last_relu_of_its_resolution() -> None:
    levels = (0, 1, 2, 3, 4)
    vgg = VGG16Features("random", width=4, levels=levels)
    features = vgg(image())
    assert list(features.relu) == list(levels)
    sizes = [(4, 32), (8, 16), (16, 8), (32, 4), (32, 2)]
    for level, (channels, side) in zip(levels, sizes, strict=True):
        assert features.relu[level].shape == (1, channels, side, side)
        assert features.relu[level].min() == 0
        alone = VGG16Features("random", width=4, levels=[level])(image())
        assert torch.equal(alone.relu[level], features.relu[level])
        assert torch.equal(alone.pool3, features.pool3)
    # the layer after the stage's last ReLU is the pooling: relu3_3 leads to pool3
    assert torch.equal(nn.functional.max_pool2d(features.relu[2], 2), features.pool3)
    convolutions = [layer for layer in vgg._features[0] if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == 13


def test_vgg_without_levels_ends_at_pool3() -> None:
    vgg = VGG16Features("random", width=4, levels=())
    assert isinstance(vgg._features[0][-1], nn.MaxPool2d)
    features = vgg(image())
    assert features.relu == {}
    assert torch.equal(features.pool3, VGG16Features("random", width=4)(image()).pool3)


def test_vgg_normalises_as_imagenet() -> None:
    vgg = VGG16Features("random", width=4)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    unit = (image() + 1) / 2
    normalised = (unit - mean[:, None, None]) / std[:, None, None]
    plain = VGG16Features("random", width=4, imagenet_norm=False)
    torch.testing.assert_close(vgg(image()).pool3, plain(normalised).pool3)


def test_vgg_is_frozen_and_in_no_checkpoint() -> None:
    holder = nn.Module()
    holder.vgg = VGG16Features("random", width=4)
    assert list(holder.parameters()) == []
    assert holder.state_dict() == {}
    holder.train()
    (features,) = holder.vgg._features
    assert not any(module.training for module in features.modules())
    assert not any(parameter.requires_grad for parameter in features.parameters())
    x = image().requires_grad_()
    holder.vgg(x).relu[3].sum().backward()
    assert x.grad.norm() > 0  # but a gradient passes through


def test_vgg_moves_with_its_holder() -> None:
    holder = nn.Module()
    holder.vgg = VGG16Features("random", width=4)
    holder.to(torch.float64)
    assert holder.vgg(image().double()).relu[3].dtype == torch.float64
    holder.to("meta")
    assert holder.vgg(image().double().to("meta")).relu[3].device.type == "meta"


@pytest.mark.shared
@pytest.mark.skipif(not WEIGHTS.exists(), reason="the VGG-16 weights are not at ../shared")
def test_vgg_reads_a_weights_file() -> None:
    vgg = VGG16Features(str(WEIGHTS))
    features = vgg(image())
    assert features.pool3.dtype == torch.float32
    assert features.relu[3].shape == (1, 512, 4, 4)
    assert not torch.equal(features.relu[3], VGG16Features("random")(image()).relu[3])


def test_vgg_reads_pth_and_safetensors_alike(tmp_path: Path) -> None:
    (features,) = VGG16Features("random")._features
    state = {f"features.{key}": value.half() for key, value in features.state_dict().items()}
    torch.save(state, tmp_path / "vgg.pth")
    save_file(state, tmp_path / "vgg.safetensors")
    files = [tmp_path / name for name in ("vgg.pth", "vgg.safetensors")]
    outputs = [VGG16Features(str(file))(image()) for file in files]
    assert torch.equal(outputs[0].relu[3], outputs[1].relu[3])
    assert outputs[0].relu[3].norm() > 0


def test_vgg_names_a_missing_file() -> None:
    with pytest.raises(FileNotFoundError, match=r"no file nowhere/vgg\.pth"):
        VGG16Features("nowhere/vgg.pth")


def test_vgg_refuses_another_network(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, path)
    with pytest.raises(ValueError, match=r"no torchvision VGG-16: it lacks features\.0\.bias"):
        VGG16Features(str(path))
    (features,) = VGG16Features("random", width=8)._features
    torch.save({f"features.{k}": v for k, v in features.state_dict().items()}, path)
    with pytest.raises(ValueError, match=r"features\.0\.weight is \(8, 3, 3, 3\), expected \(64"):
        VGG16Features(str(path))


def test_vgg_refuses_a_width_without_weights() -> None:
    with pytest.raises(ValueError, match=r'width 64, not 16.*weights="random"'):
        VGG16Features("imagenet", width=16)


@pytest.mark.parametrize("error", [OSError("no route to host"), RuntimeError("invalid hash value")])
def test_vgg_says_how_to_pass_a_file_when_the_download_fails(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: VGG16_Weights, *args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(VGG16_Weights, "get_state_dict", fail)
    with pytest.raises(RuntimeError, match=r"model\.vgg\.weights=/path") as caught:
        VGG16Features("imagenet")
    assert str(error) in str(caught.value)
    assert "https://" in str(caught.value)
