"""Ollama's API: chat, generate, embed and the care of models; at /api for its own clients and at /ollama/api.

`schema` holds the wire types with their bounds, `names` what a model is called, `translate`, `answers` and `models` the
two directions (pure), `routes` the handlers of text, `library` those of models.
"""
