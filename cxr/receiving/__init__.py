"""Radiographs from the DICOM network, written into an inbox."""
