"""The steps of a recipe: one module each, registered by being here. Each has STEP."""
