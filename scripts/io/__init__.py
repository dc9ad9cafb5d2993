"""Radiographs and annotations in; volumes and meshes out."""
