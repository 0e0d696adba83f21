"""Writes the folds' weights into a package: tensors that are equal in all folds once, the others for each fold."""

from safetensors.torch import save

from cxr.storage import files
from cxr.storage.model_folder import PackageFolder
from cxr.training.predictions import read_weights
from cxr.training.run import Run


def write_weights(folder: PackageFolder, run: Run) -> None:
    """Write the weights of a finished run."""
    states = [read_weights(run, fold) for fold in range(run.config.folds)]
    first = states[0]
    shared = {name for name in first if all(first[name].equal(state[name]) for state in states[1:])}
    parts = {folder.shared_weights: {name: first[name] for name in shared}}
    for fold, state in enumerate(states):
        parts[folder.fold_weights(fold)] = {name: tensor for name, tensor in state.items() if name not in shared}
    for path, tensors in parts.items():
        with files.replacing(path) as temporary:
            temporary.write_bytes(save(tensors))
