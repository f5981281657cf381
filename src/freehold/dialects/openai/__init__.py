"""OpenAI's API: models, chat completions, completions, embeddings, responses; at /v1 and /openai/v1.

`schema` holds the wire types with their bounds, `translate` the two directions (pure), `routes` the handlers;
`responses/` has the same for the Responses API.
"""
