"""Anthropic's API: messages, token counts, models; at /v1 for its own clients and at /anthropic/v1.

`schema` holds the wire types with their bounds, `translate` the two directions (pure), `routes` the handlers.
"""
