"""The controller of the policy gradient: a probability of connection for every block."""

from __future__ import annotations

import torch
from torch import nn


class Controller(nn.Module):
    """``zeros(20) -> Linear 50 -> ReLU -> Linear 2m``, then a softmax over two logits a block (EAN, section 3.2).

    Its input is constant zero, as in the authors' code: the first weight matrix therefore never receives a gradient
    and only its bias learns. The network is a reparametrisation of ``2m`` free logits, kept because it sets the
    effective learning rate. The released code defines ``2.5 tanh(logits)`` but never applies it; neither do we.

    Args:
        num_blocks: ``m``.
        input_size: 20 in the authors' code.
        hidden: 50 in the authors' code.
        temperature: Logits are divided by it; 5 in the authors' code.
    """

    def __init__(self, num_blocks: int, input_size: int = 20, hidden: int = 50, temperature: float = 5.0) -> None:
        super().__init__()
        self.num_blocks, self.input_size, self.temperature = num_blocks, input_size, temperature
        self.fc1 = nn.Linear(input_size, hidden)
        self.fc2 = nn.Linear(hidden, 2 * num_blocks)

    def forward(self) -> torch.Tensor:
        """Log-probabilities of 0 and 1 for every block, shape (m, 2)."""
        zeros = self.fc1.weight.new_zeros(self.input_size)
        logits = self.fc2(torch.relu(self.fc1(zeros))) / self.temperature
        return logits.view(self.num_blocks, 2).log_softmax(1)

    def log_probs(self, bits: torch.Tensor) -> torch.Tensor:
        """``log p^i``: the log-probability of every bit of some schemes, (n, m) -> (n, m)."""
        table = self()  # (m, 2)
        return torch.where(bits.bool(), table[:, 1], table[:, 0])

    def probabilities(self) -> torch.Tensor:
        """Probability of a connection for every block, shape (m,)."""
        return self()[:, 1].exp().detach()
