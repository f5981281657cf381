"""Facts about models, recorded where they happen, each with its grade.

facts.Fact                                   one observation about one digest
evaluate.evaluate(worker, rows, …)           a model's answers to held-out questions, measured: an Evaluation
sign                                         signatures in the OpenSSF model-signing format, and trust
metrics                                      token-F1 and exact match, as SQuAD defines them
"""
