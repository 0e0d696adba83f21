"""The names of all files under `models/`."""

from dataclasses import dataclass
from pathlib import Path

from cxr.errors import ConfigError
from cxr.storage.files import require_local
from cxr.storage.run_folder import NAME


@dataclass(frozen=True)
class PackageFolder:
    """Where a packaged model keeps its files: `models/<name>/<version>/`."""

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
        return self.path / "SHA256SUMS"

    def fold_weights(self, fold: int) -> Path:
        """Return what of a fold's weights it does not share with the others."""
        return self.path / f"fold-{fold}.safetensors"

    def int8_graph(self, part: str, fold: int) -> Path:
        """Return the layers of a part of a fold's network in 8-bit integers."""
        return self.path / f"int8-{part}-{fold}.onnx"


@dataclass(frozen=True)
class ModelFolder:
    """Where the versions of a model stand: `models/<name>/`."""

    path: Path

    @classmethod
    def named(cls, models: Path, name: str) -> "ModelFolder":
        """Return the folder of model `name`, there or not; refuse a name that is no plain folder name."""
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"--name must be letters, digits, '.', '_' or '-', 80 at most and no '.' first, got {name!r}."
            )
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
        """The number of the newest version ever made: one that was deleted is not given to another."""
        return self.path / "newest"

    @property
    def promotions(self) -> Path:
        return self.path / "promotions.json"

    @property
    def lock(self) -> Path:
        return self.path.parent / ".locks" / f"{self.name}.lock"

    def version(self, version: str) -> PackageFolder:
        """Return the folder of a version, there or not."""
        return PackageFolder(self.path / version)

    def versions(self) -> list[str]:
        """Return the versions that are there, oldest first."""
        numbers = [
            int(p.name) for p in self.path.glob("*") if p.name.isdecimal() and PackageFolder(p).checksums.exists()
        ]
        return [str(number) for number in sorted(numbers)]
