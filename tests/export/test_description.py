import subprocess
from pathlib import Path

from cxr.serving.package import Package
from cxr.storage import files
from cxr.storage.files import sha256_of
from cxr.training.run import Run


def test_a_package_describes_itself_and_its_run_without_folders_of_this_machine(packaged: tuple[Run, Package]) -> None:
    run, package = packaged
    folder = package.folder
    names = {"README.md", "SHA256SUMS", "images.parquet", "novelty.safetensors", "package.json"}
    weights = {"shared.safetensors", "fold-0.safetensors", "fold-1.safetensors"}
    assert {path.name for path in folder.path.iterdir()} == names | weights
    facts = files.read_json(folder.description)
    record = files.read_record(run.folder.config)
    assert {name: facts[name] for name in ("name", "version", "run_id", "classes", "positive", "size", "n_folds")} == {
        "name": run.config.trainable,
        "version": "1",
        "run_id": run.folder.run_id,
        "classes": ["NORMAL", "PNEUMONIA"],
        "positive": "PNEUMONIA",
        "size": 32,
        "n_folds": 2,
    }
    assert facts["trainable"] == package.trainable == run.config.trainable
    assert facts["n_images"] == len(run.images()) == len(package.images())
    kept = facts["config"]
    assert kept == record["config"] | {"data": kept["data"], "weights": kept["weights"]}
    assert (kept["data"], kept["weights"]) == (Path(run.config.data).name, Path(run.config.weights).name)
    weights_hash = "none" if run.config.weights == "none" else sha256_of(Path(run.config.weights))
    data_hash = files.read_json(run.folder.data)["data_hash"]
    assert facts["hashes"] == {"data": data_hash, "weights": weights_hash, "config": run.config_hash}
    assert package.threshold == package.thresholds["youden"]


def test_sha256sum_accepts_the_sums_and_they_name_every_file(packaged: tuple[Run, Package]) -> None:
    folder = packaged[1].folder
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    checked = subprocess.run(command, cwd=folder.path, capture_output=True, text=True, check=True)
    named = {line.removesuffix(": OK") for line in checked.stdout.splitlines()}
    assert named == {path.name for path in folder.path.iterdir()} - {"SHA256SUMS"}
