"""Anthropic's API: messages and batches of them, token counts, models; at /v1 for its own clients and at /anthropic/v1.

`schema` holds the wire types with their bounds, `translate` the two directions (pure), `routes` the handlers.
"""
