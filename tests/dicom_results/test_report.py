"""Reports, read by highdicom's own reader, by pydicom and by dcmtk."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pydicom
import pytest
from highdicom.sr import ComprehensiveSR, MeasurementReport, MeasurementsAndQualitativeEvaluations, srread
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from cxr import __version__
from cxr.classes import Findings
from cxr.dicom_results.codes import own_concept
from cxr.dicom_results.identifiers import ResultUids
from cxr.dicom_results.report import make_report
from cxr.dicom_results.source import read_source
from cxr.metrics.calibration import ABOVE_ONE
from cxr.serving.package import Package
from cxr.serving.registry import load_champion
from tests.support.dicom import PATIENT, find_instances
from tests.support.images import make_dicom
from tests.support.scoring import table

Group = MeasurementsAndQualitativeEvaluations


@pytest.fixture(scope="module")
def package(home: Path) -> Package:
    return load_champion(home / "models", "tiny")


@pytest.fixture(scope="module")
def reports(dicom_results: Path) -> dict[str, ComprehensiveSR]:
    """By the file that each is about."""
    inbox = dicom_results.parent / "inbox" / "ward"
    names = {pydicom.dcmread(path).SOPInstanceUID: path.name for path in inbox.glob("*.dcm")}
    made = [srread(path) for path in find_instances(dicom_results, "SR")]
    return {names[report.get_evidence()[0][2]]: report for report in made}


def content(report: ComprehensiveSR) -> MeasurementReport:
    read = ComprehensiveSR.from_dataset(report).content
    assert isinstance(read, MeasurementReport)
    return read


def groups(report: MeasurementReport) -> dict[str, Group]:
    return {str(group.tracking_identifier): group for group in report.get_image_measurement_groups()}


def measured(group: Group) -> dict[str, float]:
    """Values in percent, by the meaning of their concepts."""
    found = group.get_measurements()
    assert {measurement.unit for measurement in found} <= {codes.UCUM.Percent}
    return {measurement.name.meaning: float(measurement.value) for measurement in found}


def said(group: Group) -> dict[str, Any]:
    return {evaluation.name.meaning: evaluation.value for evaluation in group.get_qualitative_evaluations()}


def test_a_report_has_the_probability_of_each_class_and_which_is_predicted(
    reports: dict[str, ComprehensiveSR], dicom_results: Path, package: Package
) -> None:
    rows = table(dicom_results.parent / "scores").set_index("path")
    assert set(reports) == {"first.dcm", "second.dcm"}
    for name, report in reports.items():
        by_class = groups(content(report))
        assert set(by_class) == {"image", "NORMAL", "PNEUMONIA"}
        predicted = rows.loc[name, "predicted_label"]
        for label, code in (("NORMAL", "17621005"), ("PNEUMONIA", "233604007")):
            group = by_class[label]
            assert group.finding_type is not None
            assert (group.finding_type.value, group.finding_type.scheme_designator) == (code, "SCT")
            certainty = measured(group)["Certainty of Finding"]
            assert certainty == pytest.approx(100 * rows.loc[name, f"probability_{label}"], abs=1e-5)
            assert said(group)["Predicted"] == (codes.SCT.Yes if label == predicted else codes.SCT.No)
        assert said(by_class["image"])["Predicted class"] == by_class[str(predicted)].finding_type
        threshold = measured(by_class["PNEUMONIA"])["Threshold of the operating point"]
        assert threshold == pytest.approx(100 * package.threshold, abs=1e-5)
        assert "Threshold of the operating point" not in measured(by_class["NORMAL"])


def test_each_group_names_model_version_operating_point_image_and_purpose(
    reports: dict[str, ComprehensiveSR], package: Package
) -> None:
    for report in reports.values():
        ((_, _, image, _),) = report.get_evidence()
        for group in groups(content(report)).values():
            texts = {
                (item.ConceptNameCodeSequence[0].CodeMeaning, item.TextValue)
                for item in group[0].ContentSequence
                if item.ValueType == "TEXT"
            }
            assert {("Algorithm Name", "tiny"), ("Algorithm Version", "1")} <= texts
            parameters = [value for name, value in texts if name == "Algorithm Parameters"]
            assert f"operating point: {package.operating_point}" in parameters
            assert "Academic and research use only; not a medical device." in parameters
            (source,) = [item for item in group[0].ContentSequence if item.ValueType == "IMAGE"]
            assert source.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == image


def test_a_report_is_unverified_says_what_it_is_for_and_lists_its_image(reports: dict[str, ComprehensiveSR]) -> None:
    for report in reports.values():
        flags = report.VerificationFlag, report.CompletionFlag, report.PreliminaryFlag
        assert flags == ("UNVERIFIED", "COMPLETE", "PRELIMINARY")
        assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
        assert (report.Manufacturer, report.SoftwareVersions) == ("cxr", f"cxr {__version__}")
        assert "for research use" in report.SeriesDescription
        by_name = {item.ConceptNameCodeSequence[0].CodeMeaning: item for item in report.ContentSequence}
        assert by_name["Comment"].TextValue == "Academic and research use only; not a medical device."
        image = by_name["Image Library"].ContentSequence[0].ContentSequence[0]
        assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == report.get_evidence()[0][2]


def test_a_report_is_in_the_study_of_its_image_in_a_series_of_its_own(
    reports: dict[str, ComprehensiveSR], dicom_results: Path
) -> None:
    for name, report in reports.items():
        image = pydicom.dcmread(dicom_results.parent / "inbox" / "ward" / name)
        assert report.StudyInstanceUID == image.StudyInstanceUID
        assert report.SeriesInstanceUID != image.SeriesInstanceUID
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyDate"):
            assert str(report[keyword].value) == str(image[keyword].value)


def test_a_report_is_dated_by_its_row_in_the_time_zone_of_the_image(
    reports: dict[str, ComprehensiveSR], dicom_results: Path
) -> None:
    parts = (dicom_results.parent / "scores" / "ward").glob("*.parquet")
    at = pd.concat(map(pd.read_parquet, parts)).set_index("path")["scored_at"].dt.tz_convert("Etc/GMT-1")
    for name, report in reports.items():
        assert report.TimezoneOffsetFromUTC == "+0100"
        assert report.ContentDate + report.ContentTime == f"{at[name]:%Y%m%d%H%M%S}"


def made_with(package: Package, row: dict[str, Any]) -> MeasurementReport:
    """The content of a report of a small image, by a package and a row."""
    data = make_dicom(**PATIENT, StudyInstanceUID=generate_uid(), SeriesInstanceUID=generate_uid())
    return content(make_report(read_source(data), package, row, ResultUids.of("image", "package")))


@pytest.mark.parametrize(
    ("answer", "fitting", "code"),
    [
        ("PNEUMONIA", "PNEUMONIA", ("233604007", "SCT")),
        ("refer", "NORMAL|PNEUMONIA", ("refer", "99CXR")),
        ("refer", "", ("refer", "99CXR")),
    ],
)
def test_a_package_that_refers_also_reports_its_answer_and_which_classes_fit(
    package: Package, answer: str, fitting: str, code: tuple[str, str]
) -> None:
    refers = {"refer": {"level": 0.1, "thresholds": {"NORMAL": 0.2, "PNEUMONIA": 0.2}}}
    row = {
        "probability_NORMAL": 0.1,
        "probability_PNEUMONIA": 0.9,
        "predicted_label": "PNEUMONIA",
        "in_training": False,
    }
    row |= {"answer": answer, "prediction_set": fitting, "unlike_training": False}
    by_class = groups(made_with(replace(package, facts=package.facts | refers), row))
    reported = said(by_class["image"])["Answer"]
    assert (reported.value, reported.scheme_designator) == code
    for name in ("NORMAL", "PNEUMONIA"):
        is_fitting = name in fitting.split("|")
        assert said(by_class[name])["Fits the image"] == (codes.SCT.Yes if is_fitting else codes.SCT.No)


def test_a_threshold_above_all_probabilities_is_said_in_words(package: Package) -> None:
    row = {"probability_NORMAL": 0.0, "probability_PNEUMONIA": 1.0, "predicted_label": "NORMAL", "in_training": True}
    never = replace(package, thresholds={"half": ABOVE_ONE}, operating_point="half")
    by_class = groups(made_with(never, row))
    assert measured(by_class["PNEUMONIA"]) == {"Certainty of Finding": 100}
    parameters = [item.TextValue for item in by_class["NORMAL"][0].ContentSequence if item.ValueType == "TEXT"]
    assert "PNEUMONIA is never predicted" in parameters
    assert said(by_class["image"])["One of the training images"] == codes.SCT.Yes


def test_each_of_several_findings_has_its_own_group_and_threshold(package: Package) -> None:
    findings = Findings(("Pneumothorax", "opacity"))
    thresholds = {"Pneumothorax": {"half": 0.5}, "opacity": {"half": 0.3}}
    several = replace(package, outputs=findings, thresholds_of=thresholds, operating_point="half")  # pyright: ignore[reportArgumentType]
    row = {"probability_Pneumothorax": 0.25, "probability_opacity": 0.75, "unlike_training": True, "in_training": False}
    row |= {"called_Pneumothorax": False, "called_opacity": True}
    by_finding = groups(made_with(several, row))
    assert said(by_finding["image"]) == {
        "Unlike the training images": codes.SCT.Yes,
        "One of the training images": codes.SCT.No,
    }
    first, second = by_finding["Pneumothorax"], by_finding["opacity"]
    assert first.finding_type == codes.SCT.Pneumothorax
    assert second.finding_type == own_concept("opacity", "opacity")
    assert measured(first) == {"Certainty of Finding": 25, "Threshold of the operating point": 50}
    assert measured(second) == {"Certainty of Finding": 75, "Threshold of the operating point": 30}
    assert (said(first)["Predicted"], said(second)["Predicted"]) == (codes.SCT.No, codes.SCT.Yes)


@pytest.mark.skipif(shutil.which("dsrdump") is None, reason="dcmtk is not installed")
def test_dcmtk_reads_every_report_without_a_complaint(dicom_results: Path) -> None:
    for path in find_instances(dicom_results, "SR"):
        ended = subprocess.run(["dsrdump", path], capture_output=True, text=True, check=True)
        assert "Comprehensive SR Document" in ended.stdout
        assert 'CODE:(,,"Predicted class")=' in ended.stdout
        complaints = [line for line in ended.stderr.splitlines() if "Specific Character Set: ISO_IR 192" not in line]
        assert complaints == []


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
def test_dicom3tools_finds_no_error_in_what_is_written(dicom_results: Path) -> None:
    for path in find_instances(dicom_results):
        ended = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        assert ended.stderr.splitlines()[0] in ("ComprehensiveSR", "SCImage")
        assert "Error" not in ended.stdout + ended.stderr
