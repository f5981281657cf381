"""OpenAI's API: models, chat completions, completions, embeddings, files, batches, moderations; at /v1 and /openai/v1.

`schema` and `batch_schema` hold the wire types with their bounds, `translate` the two directions (pure), `routes` the
handlers, `asking` whole answers, `files`, `batches` and `moderations` their routes, `refused` the table of what is not
here.
"""
