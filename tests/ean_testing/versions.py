"""What the oldest torch that is supported cannot do."""

import pytest
import torch

exports = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 8), reason="torch 2.7 cannot export this"
)
