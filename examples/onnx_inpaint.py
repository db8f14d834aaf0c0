"""Fill the hole of a picture with onnxruntime, NumPy and Pillow alone.

    python examples/onnx_inpaint.py model.onnx photo.jpg hole.png filled.png

The mask is white in the hole. The whole picture is shown to the network as it is, mirrored at its
right and bottom edges to a size that the network takes. A picture much larger than those of the
training is better filled by ``python -m csa_inpaint.predict``, which finds a scale for each hole.
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image


def inpaint(
    session: onnxruntime.InferenceSession, image: Image.Image, mask: Image.Image
) -> Image.Image:
    """The picture with its hole filled; its known pixels are the picture's own."""
    pixels = np.asarray(image.convert("RGB"))
    hole = np.asarray(mask.convert("L")) > 127
    if hole.shape != pixels.shape[:2]:
        raise ValueError(f"the mask has the size {mask.size}, the picture {image.size}")
    multiple = int(session.get_modelmeta().custom_metadata_map["multiple"])
    height, width = hole.shape
    padding = ((0, -height % multiple), (0, -width % multiple))
    filled, *_ = session.run(
        ["composite"],
        {
            "image": np.pad(pixels, (*padding, (0, 0)), mode="symmetric")
            .transpose(2, 0, 1)[None]
            .astype(np.float32)
            / 127.5
            - 1,
            "mask": np.pad(hole, padding, mode="symmetric")[None, None].astype(np.float32),
        },
    )
    generated = filled[0, :, :height, :width].transpose(1, 2, 0).clip(-1, 1) * 127.5 + 127.5
    return Image.fromarray(np.where(hole[..., None], generated.round(), pixels).astype(np.uint8))


def main(model: str, image: str, mask: str, output: str) -> None:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    inpaint(session, Image.open(image), Image.open(mask)).save(output)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
