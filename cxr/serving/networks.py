"""The folds' networks, read from the files of a package: the layers that all folds share, and each fold's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from cxr.errors import PackageError
from cxr.network.preprocessing import Preprocessing
from cxr.network.resnet import Classifier
from cxr.recipe import Trainable
from cxr.storage.model_folder import PackageFolder

Part = Literal["shared", "own"]
"""Layers before the last one: those that all folds share, or a fold's own."""


@dataclass(frozen=True)
class PackagedNetworks:
    """The networks of a package, whether it is finished or still being built."""

    folder: PackageFolder
    n_classes: int
    n_folds: int
    trainable: Trainable
    """What was trained: all layers before it are the same in every fold."""
    identity: str
    """Changes whenever the weights do."""

    def model(self, fold: int) -> Classifier:
        """Return a fold's network, in evaluation mode."""
        with self._as_package_error():
            state = load_file(self.folder.shared_weights) | load_file(self.folder.fold_weights(fold))
            return Classifier.from_weights(self.n_classes, state).eval()

    def head(self, fold: int) -> nn.Linear:
        """Return the last layer of a fold's network, in evaluation mode."""
        with self._as_package_error():
            tensors = self._tensors(fold, "network.fc.weight", "network.fc.bias")
            weight = tensors["network.fc.weight"]
            head = nn.Linear(weight.shape[1], weight.shape[0])
            head.load_state_dict({"weight": weight, "bias": tensors["network.fc.bias"]})
        return head.eval()

    def preprocessing(self) -> Preprocessing:
        """Return how squares become the networks' input."""
        with self._as_package_error():
            tensors = self._tensors(0, "mean", "std", "percentiles", "view_maps")
            optional = [tensors.get(name) for name in ("percentiles", "view_maps")]
            return Preprocessing(tensors["mean"], tensors["std"], *optional)

    def int8_graph(self, part: Part, fold: int) -> Path:
        """Return the ONNX file that holds a part of a fold's network in 8-bit integers."""
        return self.folder.int8_graph(part, fold)

    @contextmanager
    def _as_package_error(self) -> Iterator[None]:
        """Raise PackageError if the weights are no safetensors, or do not fit the network."""
        try:
            yield
        except (SafetensorError, KeyError, OSError, RuntimeError) as error:  # torch raises RuntimeError
            cause = str(error).partition("\n")[0]
            raise PackageError(
                f"the weights in {str(self.folder.path)!r} do not fit its network ({cause}): package the run again."
            ) from error

    def _tensors(self, fold: int, *names: str) -> dict[str, Tensor]:
        """Return the tensors of these names that the package has."""
        tensors: dict[str, Tensor] = {}
        for file in (self.folder.shared_weights, self.folder.fold_weights(fold)):
            with safe_open(file, framework="pt") as opened:
                tensors |= {name: opened.get_tensor(name) for name in names if name in opened.keys()}  # noqa: SIM118
        return tensors
