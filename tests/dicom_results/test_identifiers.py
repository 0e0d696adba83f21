import uuid
from dataclasses import asdict

from cxr.dicom_results.identifiers import NAMESPACE, ResultUids, derive_uid
from cxr.images.dicom.file import is_uid


def test_the_same_image_and_package_have_the_same_uids_and_others_have_others() -> None:
    first = asdict(ResultUids.of("image", "package"))
    assert first == asdict(ResultUids.of("image", "package"))
    others = [ResultUids.of("other", "package"), ResultUids.of("image", "other")]
    uids = [*first.values(), *(uid for other in others for uid in asdict(other).values())]
    assert len(set(uids)) == len(uids)
    assert all(map(is_uid, uids))


def test_a_uid_is_a_uuid_from_its_names_as_a_number() -> None:
    root, number = derive_uid("a", "b").rsplit(".", 1)
    assert root == "2.25"
    assert uuid.UUID(int=int(number)) == uuid.uuid5(NAMESPACE, "a\0b")
    assert uuid.UUID(int=int(number)).version == 5


def test_names_that_read_alike_together_give_other_uids() -> None:
    assert derive_uid("ab", "c") != derive_uid("a", "bc")


def test_the_uids_of_a_version_stay_those_of_before() -> None:
    assert ResultUids.of("image", "package").report == "2.25.268401604609476556405759493167616475594"
