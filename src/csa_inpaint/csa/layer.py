"""The Coherent Semantic Attention layer: search → propagate → fold."""

from typing import Literal, NamedTuple, get_args, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual

from csa_inpaint.csa.attend import attend
from csa_inpaint.csa.mask import check_threshold, reduce_mask
from csa_inpaint.csa.propagate import attention_matrix, links

Similarity = Literal["cosine", "released"]
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class NonFiniteFeaturesError(ValueError, FloatingPointError):
    """The layer was given features that are infinite or not a number."""


class Attended(NamedTuple):
    """The patches of the features in raster order, and what the layer computes for them."""

    patches: Tensor  # (B, P, D), cut from the features
    hole: Tensor  # (B, P), true at hole patches
    match: Tensor  # (B, P), index of the most similar known patch; a known patch is its own match
    weights: Tensor  # (B, P), weight of the previous patch in the blend
    generated: Tensor  # (B, P, D), the patches after the hole patches are generated


class CSALayer(nn.Module):
    """Fill the hole of a feature map with coherent mixtures of its known patches.

    Coherent Semantic Attention (Liu et al., ICCV 2019, Sec. 3.2). The layer takes the hole patches
    ``m_1 … m_n`` in raster order, also across gaps and row ends. It finds the known patch ``m̄_i``
    that is most similar to ``m_i`` (cosine similarity ``Dmax_i``; the first in raster order wins a
    tie), and replaces the hole patch by

        m_1 = m̄_1,    m_i = (Dad_i · m_{i-1} + Dmax_i · m̄_i) / (Dad_i + Dmax_i),

    where ``Dad_i`` is the cosine similarity of the original ``m_i`` with the patch generated just
    before it. A hole patch that resembles no known patch (``Dmax_i`` is negative, or zero to within
    rounding) is replaced by its match alone. So every generated patch is a convex combination of
    known patches, and neighbours agree with each other. Known positions stay bit-identical. A
    sample without a hole or without a known patch passes through bit-identical. The layer has no
    parameters and no state.

    Args:
        patch_size: side of the square patches, in feature cells.
        stride: distance between neighbouring patches, in feature cells.
        threshold: share of hole above which a feature cell counts as hole. The threshold applies
            to a mask that is larger than the features (see ``reduce_mask``).
        similarity: ``"cosine"`` computes the similarities described above. ``"released"`` computes
            those of the authors' implementation, which normalises one side only:
            ``Dmax_i = m_i · m̄_i / ‖m̄_i‖`` and ``Dad_i = m_i / ‖m_i‖ · m_{i-1}``.
        detach_weights: treat the blend weights as constants in the backward pass.
        guarded: clamp negative similarities at zero, and take the match alone where no known patch
            is similar. The authors' implementation has no guard: similarities of opposite signs can
            make its weights arbitrarily large, and a patch of zeros becomes NaN. None guards the
            cosine similarity and leaves the released similarity without a guard.
        across_gaps: the patch before ``m_i`` is the last hole patch in raster order, whatever lies
            between the two. False takes the left neighbour only; a patch whose left neighbour is
            known or missing starts anew with ``m_i = m̄_i``.

    The paper leaves open how patches of more than one position are treated. In this layer a patch
    is a hole patch when any of its positions is in the hole, and a known patch otherwise. The layer
    searches and generates whole patches, averages generated patches where they overlap, and writes
    hole positions only. Where the stride leaves a remainder, the layer repeats the last row and
    column, so that patches reach every position.

    The backward pass is exact. It cannot be differentiated a second time, and the layer has no
    forward-mode derivative.

    Shape:
        - features: (B, C, H, W), floating point.
        - mask: (B, 1, h, w), above 0.5 in the hole; h and w equal H and W or are whole multiples of
          them.
        - returns (B, C, H, W) in the dtype, device and memory format of the features. With
          ``return_attention``, also returns the attention (B, P, P) over the P patches in raster
          order, in float32 or float64. Row i holds the share that patch i takes from each known
          patch. A known patch, and each patch of a sample that passes through, takes all of itself.
          The attention carries no gradient.

    Raises:
        ValueError: for shapes, dtypes or devices that do not fit, and for patches larger than the
            map.
        NonFiniteFeaturesError: for features that are not finite, on the CPU and outside compiled
            graphs. This ``ValueError`` is not raised elsewhere, because the check would wait for
            the device. There, NaN at a known position stays, and NaN in the hole spreads to the
            hole patches that follow.
        NotImplementedError: for forward-mode differentiation (``torch.func.jvp``) outside compiled
            graphs.

    Example:
        >>> features, mask = torch.randn(2, 64, 32, 32), torch.zeros(2, 1, 256, 256)
        >>> mask[:, :, 64:192, 64:192] = 1
        >>> CSALayer()(features, mask).shape
        torch.Size([2, 64, 32, 32])
    """

    def __init__(
        self,
        patch_size: int = 1,
        stride: int = 1,
        threshold: float = 5 / 16,
        similarity: Similarity = "cosine",
        detach_weights: bool = False,
        guarded: bool | None = None,
        across_gaps: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (("patch_size", patch_size), ("stride", stride)):
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        for name, flag in (("detach_weights", detach_weights), ("across_gaps", across_gaps)):
            if type(flag) is not bool:
                raise ValueError(f"{name} must be true or false, got {flag!r}")
        if guarded is not None and type(guarded) is not bool:
            raise ValueError(f"guarded must be true, false or None, got {guarded!r}")
        check_threshold(threshold)
        if similarity not in get_args(Similarity):
            raise ValueError(
                f"similarity must be one of {get_args(Similarity)}, got {similarity!r}"
            )
        self.patch_size = patch_size
        self.stride = stride
        self.threshold = threshold
        self.similarity = similarity
        self.detach_weights = detach_weights
        self.guarded = similarity == "cosine" if guarded is None else guarded
        self.across_gaps = across_gaps

    @overload
    def forward(
        self, features: Tensor, mask: Tensor, return_attention: Literal[False] = False
    ) -> Tensor: ...

    @overload
    def forward(
        self, features: Tensor, mask: Tensor, return_attention: Literal[True]
    ) -> tuple[Tensor, Tensor]: ...

    def forward(
        self, features: Tensor, mask: Tensor, return_attention: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        self._check(features, mask)
        size = (features.shape[2], features.shape[3])
        hole = reduce_mask(mask, size, self.threshold) > 0.5  # (B, 1, H, W)
        found = self.attend(features, hole)
        output = fold(found.generated, features, hole, found.hole, self.patch_size, self.stride)
        if return_attention:
            return output, attention_matrix(found.hole, found.match, found.weights)
        return output

    def attend(self, features: Tensor, hole: Tensor) -> Attended:
        """Search and propagate, and return the patches before they are folded back.

        Shape: features (B, C, H, W); hole (B, 1, H, W), boolean.
        """
        patches = unfold(features, self.patch_size, self.stride)  # (B, P, D)
        hole_patches = unfold(hole.float(), self.patch_size, self.stride).amax(2) > 0  # (B, P)
        # A sample without a known patch has no patch to take from, so it passes through.
        hole_patches = hole_patches & ~hole_patches.all(dim=1, keepdim=True)

        columns = _patches_along(features.shape[3], self.patch_size, self.stride)
        linked = links(hole_patches, columns, self.across_gaps)

        generated, match, weights = attend(
            patches,
            hole_patches,
            linked,
            cosine=self.similarity == "cosine",
            guarded=self.guarded,
            detach_weights=self.detach_weights,
        )
        return Attended(patches, hole_patches, match, weights, generated)

    def extra_repr(self) -> str:
        return (
            f"patch_size={self.patch_size}, stride={self.stride}, threshold={self.threshold}, "
            f"similarity={self.similarity!r}, detach_weights={self.detach_weights}, "
            f"guarded={self.guarded}, across_gaps={self.across_gaps}"
        )

    def _check(self, features: Tensor, mask: Tensor) -> None:
        for name, value in (("features", features), ("mask", mask)):
            if not isinstance(value, Tensor):
                raise ValueError(f"{name} must be a tensor, got {type(value).__name__}")
        if features.dim() != 4 or features.dtype not in DTYPES or features.shape[1] == 0:
            raise ValueError(
                f"features have shape {tuple(features.shape)} and dtype {features.dtype}, "
                f"expected (B, C, H, W) of {', '.join(str(dtype) for dtype in DTYPES)}"
            )
        if mask.dim() != 4 or mask.shape[0] != features.shape[0] or mask.shape[1] != 1:
            raise ValueError(
                f"mask has shape {tuple(mask.shape)}, features of shape {tuple(features.shape)} "
                f"need ({features.shape[0]}, 1, h, w)"
            )
        if mask.device != features.device:
            raise ValueError(
                f"mask is on {mask.device} and features are on {features.device}; "
                "move the mask to the features' device"
            )
        if self.patch_size > min(features.shape[2:]):
            raise ValueError(
                f"patch_size {self.patch_size} is larger than the feature map, "
                f"{tuple(features.shape[2:])}"
            )
        if not torch.compiler.is_compiling():
            tangent = unpack_dual(features).tangent  # type: ignore[no-untyped-call]
            if tangent is not None:
                raise NotImplementedError("CSALayer has no forward-mode derivative")
        # On a GPU the check would wait for the device. A compiled graph cannot look at values.
        if features.device.type == "cpu" and not torch.compiler.is_compiling():
            _check_finite(features)


def _check_finite(features: Tensor) -> None:
    if features.detach().sum().isfinite():  # One sum is far cheaper than a look at each value.
        return
    wrong = (~features.detach().isfinite()).nonzero()
    if len(wrong):
        index = tuple(wrong[0].tolist())
        raise NonFiniteFeaturesError(
            f"the CSA layer's features[{', '.join(map(str, index))}] is {features[index].item()}, "
            f"the first of {len(wrong)} values that are not finite; similarities need finite "
            "features"
        )


def unfold(features: Tensor, size: int, stride: int) -> Tensor:
    """Cut (B, C, H, W) into its patches in raster order, (B, P, C·size²).

    Where the stride leaves a remainder, the map's last row and column are repeated so that the
    patches reach every position. Nothing is repeated for a stride above the patch size, because
    such a stride leaves gaps anyway.
    """
    if size == stride == 1:
        return features.flatten(2).mT
    for dim in (2, 3):
        missing = _missing(features.shape[dim], size, stride)
        if missing:
            edge = features.narrow(dim, features.shape[dim] - 1, 1)
            features = torch.cat([features, *[edge] * missing], dim)
    return F.unfold(features, size, stride=stride).mT


def fold(
    patches: Tensor, features: Tensor, hole: Tensor, chosen: Tensor, size: int, stride: int
) -> Tensor:
    """Write the chosen patches (B, P, D) into the hole of the features (B, C, H, W).

    Overlapping patches are averaged. Positions that no chosen patch covers keep the features.
    """
    if size == stride == 1:
        output = patches.mT.reshape(features.shape)
        in_place = output.dtype == features.dtype and output.stride() == features.stride()
        # The backward pass needs the patches unchanged. The output is then a copy, which the
        # caller may change in place.
        if in_place and not output.requires_grad:
            return output
        return torch.empty_like(features).copy_(output)  # in the features' memory format
    height, width = features.shape[2:]
    padded = (height + _missing(height, size, stride), width + _missing(width, size, stride))
    # Division by this power of two keeps the sum of overlapping patches in range.
    overlap = 2.0 ** (size * size).bit_length()
    columns = torch.where(chosen[..., None], patches / overlap, 0).mT
    ones = chosen[:, None].to(patches.dtype).expand(-1, size * size, -1)
    total = F.fold(columns, padded, size, stride=stride)[:, :, :height, :width]
    count = F.fold(ones, padded, size, stride=stride)[:, :, :height, :width]
    limit = torch.finfo(patches.dtype).max / overlap
    average = (total / count.clamp(min=1)).clamp(-limit, limit) * overlap
    output = torch.where(hole & (count > 0), average.to(features.dtype), features)
    return torch.empty_like(features).copy_(output)  # in the features' memory format


def _missing(length: int, size: int, stride: int) -> int:
    """Number of positions beyond the edge that the last patch along one axis needs."""
    return -(length - size) % stride if stride <= size else 0


def _patches_along(length: int, size: int, stride: int) -> int:
    """Number of patches along one axis."""
    return (length + _missing(length, size, stride) - size) // stride + 1
