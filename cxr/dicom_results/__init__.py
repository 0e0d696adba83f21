"""What a scoring run says of images that came as DICOM, written as DICOM into their studies, and sent to a node."""
