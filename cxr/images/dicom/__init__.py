"""DICOM files: the tags that are read, the stored values, the grey levels, and the patient as a keyed hash."""
