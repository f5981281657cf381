"""OpenAI's API, at /v1 and /openai/v1: models, chat completions, completions, embeddings, responses, files, batches and
moderations.

`schema` and `batch_schema` hold the wire types with their bounds, `translate` the two directions (pure), `routes` the
handlers, `asking` whole answers, `responses/` all that for the Responses API, `files`, `batches` and `moderations`
their routes, `refused` the table of what is not here.
"""
