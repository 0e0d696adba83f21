"""Test-time views: fixed versions of an image, over which the logits are averaged wherever a network predicts.

Each view beside the image itself is an affine map from its places to the image's, in the coordinates of
`torch.nn.functional.affine_grid`, from -1 to 1 along each side. The maps are stored with the weights.

Source: the corner crops, plain and mirrored, of Krizhevsky et al., ImageNet classification with deep convolutional
neural networks, NIPS 2012.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from cxr.recipe import TestViews

CORNER = 0.9
"""Side of a corner as a share of the image's side."""


def view_maps(test_views: TestViews) -> Tensor | None:
    """Return the maps of the views beside the image itself, shape (V - 1, 2, 3); None if there are none."""
    if test_views == "none":
        return None
    places = (CORNER - 1, 1 - CORNER)
    corners = torch.tensor([[[CORNER, 0, x], [0, CORNER, y]] for y in places for x in places])
    if test_views == "zoom":
        return corners
    whole = torch.eye(2, 3).unsqueeze(0)
    mirror = torch.tensor([[-1.0, 1, 1], [1, 1, 1]])
    return torch.cat([corners, whole * mirror, corners * mirror])


def seen_through(grey_B1HW: Tensor, map_23: Tensor) -> Tensor:
    """Return images in one view, interpolated between pixels, of the same shape."""
    grid_1HW2 = F.affine_grid(map_23.unsqueeze(0), [1, 1, *grey_B1HW.shape[2:]], align_corners=False)
    grid_BHW2 = grid_1HW2.expand(grey_B1HW.shape[0], -1, -1, -1)  # len() would fix the number in an exported graph
    return F.grid_sample(grey_B1HW, grid_BHW2, padding_mode="border", align_corners=False)
