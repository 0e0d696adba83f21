"""Convolutions over few pixels as products of matrices, which trains faster on a CPU.

In the last stages of a ResNet on small images, a map has 4 or 16 pixels and hundreds of channels. For the gradients of
such a convolution oneDNN takes up to seven times as long as the products of matrices that it amounts to (Chellapilla et
al., High performance convolutional neural networks for document processing, 2006). Rounding aside, both give the same.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST_PIXELS = {1: 64, 3: 16}
"""Of a map that a convolution with a kernel of this side gives; with more, it is not faster (PyTorch 2.15, AMX)."""


class MatrixConvolution(nn.Conv2d):
    """A convolution with a square kernel and no bias; in training, over few pixels, a product of matrices."""

    def forward(self, input: Tensor) -> Tensor:
        """Return what `torch.nn.Conv2d` returns."""
        side, stride, padding = self.kernel_size[0], self.stride[0], int(self.padding[0])
        n_rows, n_columns = ((n + 2 * padding - side) // stride + 1 for n in input.shape[2:])
        if not self.training or n_rows * n_columns > MOST_PIXELS[side]:
            return super().forward(input)
        image_BHWC = F.pad(input.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
        seen = [
            image_BHWC[:, i : i + stride * n_rows : stride, j : j + stride * n_columns : stride]
            for i in range(side)
            for j in range(side)
        ]
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        return F.linear(torch.cat(seen, dim=3), weight).permute(0, 3, 1, 2)


def use_matrices(network: nn.Module) -> None:
    """Put a `MatrixConvolution` with the same weight in the place of each convolution that it can stand for.

    Of a ResNet these are all but the first. Others are left as they are.
    """
    for parent in network.modules():
        for name, module in parent.named_children():
            if type(module) is nn.Conv2d and _is_plain(module):
                setattr(parent, name, _with_matrices(module))


def _is_plain(convolution: nn.Conv2d) -> bool:
    """Return whether a convolution is what `MatrixConvolution` computes, with a kernel that may be faster so."""
    is_square = len(set(convolution.kernel_size)) == len(set(convolution.stride)) == len(set(convolution.padding)) == 1
    is_dense = convolution.groups == 1 and convolution.dilation == (1, 1)
    has_zeros = convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)
    is_known = convolution.kernel_size[0] in MOST_PIXELS and convolution.bias is None
    return is_square and is_dense and has_zeros and is_known


def _with_matrices(convolution: nn.Conv2d) -> MatrixConvolution:
    n_in, n_out = convolution.in_channels, convolution.out_channels
    side, stride, padding = convolution.kernel_size[0], convolution.stride[0], int(convolution.padding[0])
    made = MatrixConvolution(n_in, n_out, side, stride, padding, bias=False, device="meta")
    made.weight = convolution.weight
    return made
