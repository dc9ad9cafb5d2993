"""Radiographs in: DICOM, NIfTI and pictures, all as bones-bright films in one display convention."""
