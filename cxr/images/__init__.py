"""One image: from a folder, zip, inbox or DICOM file to a grey square and its measurements, or to a reason why not."""
