"""From vertebra cubes to the patient's spine: session, assembly, meshes."""
