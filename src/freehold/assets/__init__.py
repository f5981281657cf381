"""Files that ship with Freehold: the starter model and the demo's data."""
