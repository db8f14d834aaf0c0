"""The trained model, called with windows of pictures."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csa_inpaint.inference.backends import BackendName, find_backend
from csa_inpaint.inference.trained import Model

PROBE = 64  # side of the image that a network's memory is measured on, at least
_CPU_ALLOCATOR = "DefaultCPUAllocator"  # what a RuntimeError names when it has no memory left


class Network:
    """The refined prediction of windows, computed on the model's device.

    Args:
        model: trained, ``model(image, mask) → Inpainting``; its mode is left as it is.
        batch_size: windows that are computed at a time.
        backend: how the network is computed; see ``backends``.
    """

    def __init__(self, model: Model, batch_size: int, backend: BackendName = "auto") -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: expected at least 1 window at a time")
        self.multiple = model.multiple
        self.network = find_backend(backend)(model)
        self.batch_size = batch_size

    def __call__(self, images: Sequence[Tensor], known: Sequence[Tensor]) -> list[Tensor]:
        """Predict windows; windows of one size that follow on each other share a batch.

        Hidden pixels are replaced first, so that no model sees them. A size that the model does not
        take is padded at the right and bottom with the mirror image of picture and hole.

        Args:
            images: the windows, in [-1, 1] where known.
            known: True where the window is known.

        Shape: N times (3, h, w), N times (1, h, w) → N times (3, h, w), float32 on the CPU

        Raises:
            ValueError: the model returns values that are not finite.
        """
        predicted: list[Tensor] = []
        while len(predicted) < len(images):
            first = len(predicted)
            last = first + 1
            while (
                last < min(first + self.batch_size, len(images))
                and images[last].shape == images[first].shape
            ):
                last += 1
            hole = ~torch.stack(list(known[first:last]))
            predicted += self._predict(torch.stack(list(images[first:last])), hole)
        return predicted

    def _predict(self, image: Tensor, hole: Tensor) -> list[Tensor]:
        height, width = image.shape[-2:]
        multiple = self.multiple
        padding = (0, -width % multiple, 0, -height % multiple)
        # A mirror repeats no more than the window has; a tiny window repeats its last pixels.
        mode = "reflect" if padding[1] < width and padding[3] < height else "replicate"
        image = F.pad(image.masked_fill(hole, 0), padding, mode=mode)
        # What is mirrored from the hole is hole.
        mask = F.pad(hole.float(), padding, mode=mode)
        reference = next(self.network.parameters())
        refined = self.network(image.to(reference), mask.to(reference)).refined
        result = refined[..., :height, :width].to("cpu", torch.float32)
        if not result.isfinite().all():
            raise ValueError(
                f"the model predicts values that are not finite, in {reference.dtype}: try it in "
                "float32, with backend=eager"
            )
        return list(result)

    def memory_needed(self, height: int, width: int) -> int:
        """Bytes that one image of this size takes at most: all outputs of the layers together."""
        multiple = self.multiple
        side = -(-PROBE // multiple) * multiple
        total = 0

        def count(layer: nn.Module, inputs: object, output: object) -> None:
            nonlocal total
            if isinstance(output, Tensor):
                total += output.nbytes

        layers = [layer for layer in self.network.modules() if next(layer.children(), None) is None]
        hooks = [layer.register_forward_hook(count) for layer in layers]
        known = torch.ones(1, side, side, dtype=torch.bool)
        quarter = side // 4  # in the middle, where every method can fill a hole
        known[:, quarter:-quarter, quarter:-quarter] = False
        try:
            self([torch.zeros(3, side, side)], [known])
        finally:
            for hook in hooks:
                hook.remove()
        return total * height * width // side**2

    def memory_available(self) -> int | None:
        """Bytes that are free on the model's device; None where the system does not say."""
        device = next(self.network.parameters()).device
        if device.type == "cuda":
            return torch.cuda.mem_get_info(device)[0]
        status = Path("/proc/meminfo")
        if not status.exists():
            return None
        (line,) = [one for one in status.read_text().splitlines() if one.startswith("MemAvailable")]
        return int(line.split()[1]) * 1024


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed, on whatever device."""
    lacking = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return lacking or (isinstance(error, RuntimeError) and _CPU_ALLOCATOR in str(error))
