"""The main job: two radiographs on disk to a measured spine in a folder."""
