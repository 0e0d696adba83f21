"""The names of all files under `models/`."""

from dataclasses import dataclass
from pathlib import Path

from cxr.storage.files import require_local
from cxr.storage.run_folder import SUMS, require_name


def way_out(path: Path) -> str | None:
    """Return how a file of a model or a package is made again, as part of a sentence; None for another file."""
    package = PackageFolder(path.parent)
    if path in (package.description, package.card, package.images, package.novelty):
        return "package the run again"
    model = ModelFolder(path.parent)
    if path in (model.champion, model.promotions):
        return f"choose the champion anew: `cxr promote {model.name} VERSION --force`"
    return None


ENDINGS = (".json", ".md", ".onnx", ".parquet", ".safetensors")
"""Of the files of a package; none of these kinds holds code."""


def is_file_of_package(name: str) -> bool:
    """Return whether a package may have a file of this name."""
    return name == SUMS or (name.endswith(ENDINGS) and "/" not in name and not name.startswith("."))


@dataclass(frozen=True)
class PackageFolder:
    """The files of a packaged model: `models/<name>/<version>/`."""

    path: Path

    @property
    def version(self) -> str:
        return self.path.name

    @property
    def description(self) -> Path:
        return self.path / "package.json"

    @property
    def shared_weights(self) -> Path:
        return self.path / "shared.safetensors"

    @property
    def images(self) -> Path:
        return self.path / "images.parquet"

    @property
    def novelty(self) -> Path:
        return self.path / "novelty.safetensors"

    @property
    def card(self) -> Path:
        return self.path / "README.md"

    @property
    def onnx(self) -> Path:
        return self.path / "model.onnx"

    @property
    def checksums(self) -> Path:
        return self.path / SUMS

    def fold_weights(self, fold: int) -> Path:
        """Return the file of the weights that a fold does not share with the others."""
        return self.path / f"fold-{fold}.safetensors"

    def int8_graph(self, part: str, fold: int) -> Path:
        """Return the file of one part of a fold's network in 8-bit integers."""
        return self.path / f"int8-{part}-{fold}.onnx"


@dataclass(frozen=True)
class ModelFolder:
    """The versions of a model: `models/<name>/`."""

    path: Path

    @classmethod
    def named(cls, models: Path, name: str) -> "ModelFolder":
        """Return the folder of model `name`, whether it exists or not.

        Raises:
            ConfigError: `name` is not a plain folder name, or `models` is a URL.
        """
        require_name("--name", name)
        require_local("--models", models)
        return cls((models / name).resolve())

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def champion(self) -> Path:
        return self.path / "champion"

    @property
    def newest(self) -> Path:
        """Holds the highest version number ever given, so that the number of a deleted version is not reused."""
        return self.path / "newest"

    @property
    def promotions(self) -> Path:
        return self.path / "promotions.json"

    @property
    def lock(self) -> Path:
        return self.path.parent / ".locks" / f"{self.name}.lock"

    @property
    def arriving(self) -> Path:
        """The hidden folder in which a package from another place arrives."""
        return self.path.parent / f".pulling-{self.name}"

    @property
    def arriving_lock(self) -> Path:
        return self.lock.with_name(f"{self.arriving.name}.lock")

    def version(self, version: str) -> PackageFolder:
        """Return the folder of a version, whether it exists or not."""
        return PackageFolder(self.path / version)

    def versions(self) -> list[str]:
        """Return the finished versions, oldest first."""
        numbers = [
            int(path.name)
            for path in self.path.glob("*")
            if path.name.isdecimal() and PackageFolder(path).checksums.exists()
        ]
        return [str(number) for number in sorted(numbers)]
