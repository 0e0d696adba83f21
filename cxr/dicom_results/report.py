"""A row of the scores as a Structured Report: TID 1500, Measurement Report.

Each class or finding has a measurement group. Its probability is (111012, DCM, "Certainty of Finding"), in percent:
"the likelihood that the finding detected is in fact the type of finding identified", and what DICOM's own reports of
computer-aided detection use. Model, version and operating point are in the group's algorithm identification. What the
image as a whole is said to be, and whether it is referred, is in a group of its own, which comes first.

A report is complete, preliminary and unverified: nobody has looked at it.

Source: DICOM PS3.16 TID 1500, 1501, 4019, 1004, 1600; CID 6048 (Certainty of Finding).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from cxr import __version__
from cxr.classes import REFER, SEPARATOR, Findings
from cxr.dicom_results.codes import SCHEME, class_concept, own_concept, text
from cxr.dicom_results.identifiers import ResultUids, derive_uid
from cxr.dicom_results.source import Source
from cxr.serving.package import Package
from cxr.wording import DISCLAIMER

if TYPE_CHECKING:
    from highdicom.sr import (
        CodedConcept,
        ComprehensiveSR,
        Measurement,
        MeasurementReport,
        MeasurementsAndQualitativeEvaluations,
        ObservationContext,
        QualitativeEvaluation,
    )
    from pydicom.sr.coding import Code

MANUFACTURER = "cxr"
PROCEDURE = ("399208008", "SCT", "Plain chest X-ray")
SERIES_NUMBER = 9001
OF_THE_IMAGE = {
    "unlike_training": "Unlike the training images",
    "in_training": "One of the training images",
}
"""What a report says of an image as a whole beside its class, by column of the scores."""
Row = Mapping[str, Any]
"""Of the scores, by column."""


def equipment(package: Package) -> dict[str, str]:
    """Return what highdicom is told about the program that makes an instance."""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": text(f"{package.name} {package.version}"),
        "device_serial_number": package.file_hash[:16],
        "software_versions": f"cxr {__version__}",
    }


def make_report(source: Source, package: Package, row: Row, uids: ResultUids) -> "ComprehensiveSR":
    """Return the report of an image, without its patient and study.

    Args:
        source: the image.
        package: the model that scored it.
        row: its row of the scores.
        uids: of the results.
    """
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from highdicom.sr import ComprehensiveSR

    return ComprehensiveSR(
        evidence=[source.stand_in],
        content=_content(source, package, row, uids),
        series_instance_uid=uids.report_series,
        series_number=SERIES_NUMBER,
        sop_instance_uid=uids.report,
        instance_number=1,
        series_description=f"{text(package.name, 30)}: for research use",
        is_complete=True,
        specific_character_set="ISO_IR 192",
        coding_schemes=[CodingSchemeIdentificationItem(SCHEME, name="Names of classes and concepts of cxr")],
        **equipment(package),  # pyright: ignore[reportArgumentType]
    )


def _content(source: Source, package: Package, row: Row, uids: ResultUids) -> "MeasurementReport":
    from highdicom.sr import CodedConcept, MeasurementReport, RelationshipTypeValues, TextContentItem
    from pydicom.sr.codedict import codes

    whole = _whole_image(source, package, row, uids)
    groups = [_group(source, package, row, name, uids) for name in package.outputs]
    report = MeasurementReport(
        observation_context=_observer(package),
        procedure_reported=CodedConcept(*PROCEDURE),
        referenced_images=[source.stand_in],
        imaging_measurements=[whole, *groups],
    )
    note = TextContentItem(codes.DCM.Comment, DISCLAIMER, RelationshipTypeValues.CONTAINS)
    report[0].ContentSequence.append(note)
    return report


def _observer(package: Package) -> "ObservationContext":
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObservationContext, ObserverContext
    from pydicom.sr.codedict import codes

    device = DeviceObserverIdentifyingAttributes(
        uid=derive_uid("package", package.file_hash),
        name=f"{package.name} version {package.version}",
        manufacturer_name=MANUFACTURER,
        model_name=package.name,
        serial_number=package.file_hash[:16],
    )
    return ObservationContext(observer_device_context=ObserverContext(codes.DCM.Device, device))


def _whole_image(
    source: Source, package: Package, row: Row, uids: ResultUids
) -> "MeasurementsAndQualitativeEvaluations":
    """Return the group of what is said of the image as a whole."""
    said: list[QualitativeEvaluation] = []
    if not isinstance(package.outputs, Findings):
        said.append(_evaluation("predicted-class", "Predicted class", class_concept(row["predicted_label"])))
    if pd.notna(row.get("answer")):
        is_referred = row["answer"] == REFER
        answer = own_concept("refer", "Refer to a person") if is_referred else class_concept(row["answer"])
        said.append(_evaluation("answer", "Answer", answer))
    for column, meaning in OF_THE_IMAGE.items():
        if pd.notna(row.get(column)):
            said.append(_evaluation(column.replace("_", "-"), meaning, _yes_or_no(row[column])))
    return _measurement_group(source, package, "image", uids, qualitative_evaluations=said)


def _group(
    source: Source, package: Package, row: Row, name: str, uids: ResultUids
) -> "MeasurementsAndQualitativeEvaluations":
    """Return the group of a class or finding."""
    from pydicom.sr.codedict import codes

    has_findings = isinstance(package.outputs, Findings)
    is_predicted = row[f"called_{name}"] if has_findings else row["predicted_label"] == name
    said = [_evaluation("predicted", "Predicted", _yes_or_no(is_predicted))]
    if pd.notna(row.get("answer")):
        said.append(_evaluation("fits", "Fits the image", _yes_or_no(name in row["prediction_set"].split(SEPARATOR))))
    measured = [_percent(codes.DCM.CertaintyOfFinding, row[f"probability_{name}"])]
    threshold = _threshold(package, name)
    if threshold is not None:
        measured.append(_percent(own_concept("threshold", "Threshold of the operating point"), threshold))
    return _measurement_group(
        source,
        package,
        name,
        uids,
        finding_type=class_concept(name),
        measurements=measured,
        qualitative_evaluations=said,
    )


def _measurement_group(
    source: Source, package: Package, name: str, uids: ResultUids, **content: Any
) -> "MeasurementsAndQualitativeEvaluations":
    from highdicom.sr import (
        AlgorithmIdentification,
        MeasurementsAndQualitativeEvaluations,
        SourceImageForMeasurementGroup,
        TrackingIdentifier,
    )

    dataset = source.dataset
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(derive_uid("group", uids.report, name), text(name)),
        algorithm_id=AlgorithmIdentification(package.name, package.version, _parameters(package)),
        source_images=[SourceImageForMeasurementGroup(dataset.SOPClassUID, dataset.SOPInstanceUID)],
        **content,
    )


def _parameters(package: Package) -> list[str]:
    """Return the operating point, and the rule by which a class or finding is predicted, as sentences."""
    if isinstance(package.outputs, Findings):
        rule = "each finding whose probability reaches its threshold is predicted"
    elif package.outputs.is_binary:
        positive = package.outputs[1]
        rule = f"{positive} is predicted if its probability is {package.threshold:.6g} or more"
        if package.threshold > 1:
            rule = f"{positive} is never predicted"
    else:
        return ["the class with the highest probability is predicted", DISCLAIMER]
    return [f"operating point: {package.operating_point}", rule, DISCLAIMER]


def _threshold(package: Package, name: str) -> float | None:
    """Return the probability from which a class or finding is predicted; None where there is none."""
    if isinstance(package.outputs, Findings):
        threshold = float(package.limits[package.outputs.index(name)])
    elif package.outputs.is_binary and name == package.outputs[1]:
        threshold = package.threshold
    else:
        return None
    return threshold if threshold <= 1 else None


def _percent(name: "CodedConcept | Code", share: float) -> "Measurement":
    from highdicom.sr import Measurement
    from pydicom.sr.codedict import codes

    return Measurement(name, round(100 * float(share), 6), codes.UCUM.Percent)


def _evaluation(value: str, meaning: str, answer: "CodedConcept | Code") -> "QualitativeEvaluation":
    from highdicom.sr import QualitativeEvaluation

    return QualitativeEvaluation(own_concept(value, meaning), answer)


def _yes_or_no(is_so: object) -> "Code":
    from pydicom.sr.codedict import codes

    return codes.SCT.Yes if is_so else codes.SCT.No
