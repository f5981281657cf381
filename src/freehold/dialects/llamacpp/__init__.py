"""llama-server's native API: /completion, /tokenize, /props, /slots and the like; at /llama and at the root.

`schema` holds the wire types with their bounds, `translate` the way in, `answers` and `chatting` the way out (pure),
`generating`, `telling` and `routes` the handlers. `mapping` reads what a request leaves to the server: prompts of
mixed pieces, biases by text, the model that is meant.
"""
