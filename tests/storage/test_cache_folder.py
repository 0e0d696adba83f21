import re
from pathlib import Path

from cxr.storage.cache_folder import CacheFolder

PROJECT = Path(__file__).parents[2]
CACHE = CacheFolder(Path("cache"))


def test_names_are_those_that_earlier_versions_filled() -> None:
    features = {"decoder": "v2", "weights": "0123456789abcdef0123", "size": 224, "stage": "head", "arithmetic": "bf16"}
    names = {
        CACHE.prepared("v2", 224): "cache/prepared/v2/size=224",
        CACHE.vitals("v1-v2"): "cache/vitals/v1-v2",
        CACHE.features(**features, view="0"): (
            "cache/features/v2/weights=0123456789abcdef/size=224/stage=head/bf16/view=0"
        ),
        CACHE.features(**features, view="3-0123456789ab"): (
            "cache/features/v2/weights=0123456789abcdef/size=224/stage=head/bf16/view=3-0123456789ab"
        ),
        CACHE.features_lock: "cache/.locks/features.lock",
        CACHE.patient_key: "cache/patient.key",
        CACHE.patient_key_lock: "cache/.locks/patient-key.lock",
        CACHE.compiled_graph("k"): "cache/compiled/k.pt2",
        CACHE.image_count("k"): "cache/compiled/k.json",
        CACHE.compiler: "cache/compiled/inductor",
    }
    assert {path.as_posix() for path in names} == set(names.values())


def test_compiled_graphs_are_listed_by_name_without_their_counts(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path)
    assert cache.compiled_graphs() == []
    for file in (cache.compiled_graph("b"), cache.compiled_graph("a"), cache.image_count("c")):
        file.parent.mkdir(exist_ok=True)
        file.touch()
    assert cache.compiled_graphs() == [cache.compiled_graph("a"), cache.compiled_graph("b")]


def test_no_other_module_joins_a_name_to_the_cache() -> None:
    joined = re.compile(r"\bcache / ['\"f]|cache\.glob\(")
    sources = [path for path in (PROJECT / "cxr").rglob("*.py") if path.name != "cache_folder.py"]
    assert [path.name for path in sources if joined.search(path.read_text())] == []
