"""Reconstructions out as DICOM: a segmentation object and one encapsulated STL a vertebra."""
