"""A convolution whose gradient is fast on a CPU too."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight


class SameConv(nn.Conv2d):
    """``torch.nn.Conv2d`` with an odd kernel, padded so that a stride of 1 keeps the size; dense or depthwise.

    On a CPU torch computes the gradient of a dilated, a 5x5 depthwise or a thin convolution 5 to 20 times slower than
    its output. At a stride of 1 the gradient with respect to the input is again such a convolution, with the kernel
    mirrored and its channels exchanged, and here it is computed as one. With a stride equal to the dilation it is a
    convolution without either, on every such row and column.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        kernel: Its side, an odd number.
        stride: 1 or more.
        dilation: Distance between two values of the kernel.
        depthwise: One kernel for each channel; ``inputs`` and ``outputs`` are the same.
        bias: Whether it is biased.
    """

    def __init__(
        self,
        inputs: int,
        *,
        outputs: int,
        kernel: int,
        stride: int = 1,
        dilation: int = 1,
        depthwise: bool = False,
        bias: bool = False,
    ) -> None:
        padding = (kernel // 2) * dilation
        groups = inputs if depthwise else 1
        super().__init__(inputs, outputs, kernel, stride, padding, dilation, groups, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        y = self.convolve(x, self.weight)
        return y if self.bias is None else y + self.bias[:, None, None]

    def convolve(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The same with another weight, without bias: ``x`` and ``weight`` may be those of several convolutions."""
        stride, padding, dilation = self.stride[0], int(self.padding[0]), self.dilation[0]
        if x.is_cpu and x.requires_grad and not (torch.is_autocast_enabled("cpu") or torch.jit.is_tracing()):
            if stride > 1 and stride == dilation:
                x, stride, padding, dilation = x[:, :, ::stride, ::stride], 1, padding // dilation, 1
            if stride == 1:
                y: torch.Tensor = _SameConv.apply(x, weight, padding, dilation)
                return y
        return F.conv2d(x, weight, None, stride, padding, dilation, x.shape[1] // weight.shape[1])


class _SameConv(torch.autograd.Function):
    """The convolution at stride 1, with the gradient described above."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, padding: int, dilation: int) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = padding, dilation, x.shape[1] // weight.shape[1]
        return F.conv2d(x, weight, None, 1, *ctx.geometry)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        padding, dilation, groups = ctx.geometry
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            mirrored = weight.flip(2, 3) if groups > 1 else weight.flip(2, 3).transpose(0, 1)
            grad_x = F.conv2d(grad, mirrored, None, 1, padding, dilation, groups)
        if ctx.needs_input_grad[1]:
            grad_weight = conv2d_weight(x, weight.shape, grad, 1, padding, dilation, groups)
        return grad_x, grad_weight, None, None
