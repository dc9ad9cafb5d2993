"""From vertebra cubes to the patient's spine: assembly, meshes, pictures."""
