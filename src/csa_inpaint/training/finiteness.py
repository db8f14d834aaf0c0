"""Values that are not finite."""

from csa_inpaint.types import Batch


class NonFiniteLossError(RuntimeError):
    """A loss term, a gradient or a weight became infinite or not a number.

    Args:
        message: what, where and the remedy.
        batch: on which it happened, where it was one.
    """

    def __init__(self, message: str, batch: Batch | None = None) -> None:
        super().__init__(message)
        self.batch = batch
