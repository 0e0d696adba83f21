import inspect
import pickle
import re

from cxr import errors
from cxr.errors import CxrError, RunError, UnreadableError


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    names = re.findall(r"^(├── |└── |)(\w+Error)\b", errors.__doc__ or "", flags=re.MULTILINE)
    drawn = {name: CxrError if branch else Exception for branch, name in names}
    defined = {
        name: value.__base__
        for name, value in inspect.getmembers(errors, inspect.isclass)
        if issubclass(value, Exception)
    }
    assert drawn == defined


def test_a_lock_names_its_holder_as_far_as_it_is_known() -> None:
    error = RunError.in_use("run 'first'", {"pid": 7, "host": "ward"})
    assert str(error) == "run 'first' is in use by process 7 on ward since ?: wait for it to end, or stop it."


def test_an_unreadable_file_has_its_reason_in_words() -> None:
    error = UnreadableError("dicom_of_something_else", "modality is US")
    assert str(error) == "DICOM of something else: modality is US"


def test_the_reason_survives_the_way_back_from_another_process() -> None:
    error = pickle.loads(pickle.dumps(UnreadableError("truncated", "ends after 12 bytes")))  # noqa: S301 our own
    assert (error.reason, error.detail) == ("truncated", "ends after 12 bytes")
