import pytest
import torch
from torch import Tensor, nn

from cxr.network.matrix_convolution import MOST_PIXELS, MatrixConvolution, use_matrices
from cxr.network.resnet import Classifier

SHAPES = [  # kernel, stride, side of the map that goes in
    (1, 1, 2),
    (1, 2, 4),
    (1, 2, 5),
    (3, 1, 2),
    (3, 1, 4),
    (3, 2, 4),
    (3, 2, 7),
]


def gradients(layers: nn.Module, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the layers give, and the gradients of the image and of the weight."""
    leaf = image.clone().requires_grad_()
    out = layers(leaf)
    (weight,) = layers.parameters()
    found = torch.autograd.grad((out * torch.arange(out.numel()).view_as(out).sin()).sum(), [leaf, weight])
    return out.detach(), *found


@pytest.mark.parametrize(("kernel", "stride", "side"), SHAPES)
def test_output_and_gradients_are_those_of_the_convolution(kernel: int, stride: int, side: int) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(6, 5, kernel, stride, kernel // 2, bias=False)).double()
    image = torch.randn(3, 6, side, side + 1, dtype=torch.float64)
    expected = gradients(layers, image)
    use_matrices(layers)
    assert isinstance(layers[0], MatrixConvolution)
    for found, wanted in zip(gradients(layers, image), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_over_many_pixels_and_outside_training_it_is_the_convolution_itself() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False))
    few, many = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 8, 8)
    assert many[0, 0].numel() > MOST_PIXELS[3] >= few[0, 0].numel()
    expected = [layers(image) for image in (few, many)]
    use_matrices(layers)
    assert torch.equal(layers(many), expected[1])
    assert torch.equal(layers.eval()(few), expected[0])


@pytest.mark.parametrize(
    "options",
    [
        {"bias": True},
        {"groups": 2},
        {"dilation": 2},
        {"padding": "same"},
        {"padding": (1, 0)},
        {"stride": (1, 2)},
        {"padding_mode": "reflect"},
        {"kernel_size": (3, 1)},
        {"kernel_size": 5},
    ],
)
def test_any_other_convolution_stays_as_it_is(options: dict) -> None:
    sizes = {"in_channels": 4, "out_channels": 4, "kernel_size": 3, "padding": 1, "bias": False}
    convolution = nn.Conv2d(**(sizes | options))
    layers = nn.Sequential(convolution)
    use_matrices(layers)
    assert layers[0] is convolution


def test_a_network_keeps_its_weights_and_their_names() -> None:
    torch.manual_seed(0)
    model = Classifier(2)
    before = model.state_dict()
    use_matrices(model)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(after[name].data_ptr() == before[name].data_ptr() for name in before)
    n_replaced = sum(isinstance(module, MatrixConvolution) for module in model.modules())
    assert n_replaced == 52  # all convolutions of a ResNet-50 but the first, which sees 7 by 7 pixels
