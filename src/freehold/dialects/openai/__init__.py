"""OpenAI's API, at /v1 and /openai/v1: models, chat completions, completions, embeddings, responses, files, batches,
fine-tuning jobs and moderations.

`schema`, `batch_schema` and `fine_tuning_schema` hold the wire types with their bounds, `translate` the two directions
(pure), `routes` the handlers, `asking` whole answers, `responses/` all that for the Responses API, `files`, `batches`,
`fine_tuning` and `moderations` their routes, `refused` the table of what is not here.
"""
