"""The words everyone shares: digests, names, manifests, requests, events, errors, settings.

Imports nothing of ours. Every value is frozen; parsing is the only way to make one from text.
"""
