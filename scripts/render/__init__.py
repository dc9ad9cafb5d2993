"""Pictures of films and spines, and the report page."""
