"""Models out of the store to places that others pull from.

oci.push(store, name, target, settings)          an OCI registry, in the media types that Ollama pulls
hub.push(store, name, repo, card, settings)      a repository of the Hugging Face Hub, with card and proofs
"""
