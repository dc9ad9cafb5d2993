"""The interactive interface: a page for the browser and the small service behind it."""
