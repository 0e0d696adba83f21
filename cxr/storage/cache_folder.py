"""The names of all files under `cache/`.

Everything is keyed by content and by what computed it, so any of it may be deleted at any time: what is needed is
computed again. `patient.key` alone cannot be: a new key gives other patient ids.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CacheFolder:
    """Where computed arrays, compiled graphs and the key for patient ids are kept."""

    path: Path

    def prepared(self, decoder: str, size: int) -> Path:
        """Return the folder of grey squares of one size, as one version of the decoder makes them."""
        return self.path / "prepared" / decoder / f"size={size}"

    def vitals(self, version: str) -> Path:
        """Return the folder of thumbnails and vital signs, as one version measures them."""
        return self.path / "vitals" / version

    def features(self, *, decoder: str, weights: str, size: int, stage: str, arithmetic: str, view: str) -> Path:
        """Return the folder of what frozen layers give for one view of each image.

        Args:
            decoder: version of the decoder.
            weights: SHA-256 of the weights' file, of which 16 digits name the folder.
            size: side of the squares, in pixels.
            stage: where the network is cut.
            arithmetic: bf16 or fp32.
            view: name of the image's version, after preprocessing.
        """
        network = self.path / "features" / decoder / f"weights={weights[:16]}" / f"size={size}" / f"stage={stage}"
        return network / arithmetic / f"view={view}"

    @property
    def features_lock(self) -> Path:
        return self.path / ".locks" / "features.lock"

    @property
    def patient_key(self) -> Path:
        return self.path / "patient.key"

    @property
    def patient_key_lock(self) -> Path:
        return self.path / ".locks" / "patient-key.lock"

    @property
    def compiler(self) -> Path:
        """What the compiler writes while it makes a graph; deleted afterwards."""
        return self.path / "compiled" / "inductor"

    def compiled_graph(self, kind: str) -> Path:
        """Return the file of a compiled graph, by the key of what it depends on."""
        return self.path / "compiled" / f"{kind}.pt2"

    def image_count(self, kind: str) -> Path:
        """Return the file that counts the images which went through a graph's layers."""
        return self.path / "compiled" / f"{kind}.json"

    def compiled_graphs(self) -> list[Path]:
        """Return the compiled graphs that are there, by name."""
        return sorted(self.path.glob("compiled/*.pt2"))
