"""The model that is trained: Llama's family of decoders, with its own forward and backward passes.

shape.Shape.read(folder)                          what config.json says, for every family
weights.open_weights(folder) -> Weights           the base's matrices, memory-mapped, cast when they are used
model.Decoder(shape, weights, ...)                hidden = decoder(ids, rows); decoder.linears to put adapters beside
attention.Rows.of(lengths, device)                rows packed side by side, none of which sees another
functions, loss                                   what keeps little for the backward pass: norms, projections, the head

transformers' own models are the oracle of the tests, and nothing here imports them for a forward pass.
"""
