"""What a term of a loss is."""

from typing import NamedTuple

from torch import Tensor


class Term(NamedTuple):
    """One term of a loss: its log name, its value and its weight in the sum."""

    name: str
    loss: Tensor
    weight: float
