"""Signatures of models and files in the OpenSSF model-signing (OMS) v1 format, with local elliptic-curve keys.

keys.make(path, passphrase)       a P-256 key pair: PATH (private, mode 0600) and PATH.pub
keys.private(path, passphrase)    PrivateKey: sign(bytes)           keys.public(data) -> PublicKey: verify(...), hint
statement.of(name, resources)     what is signed: file names and their digests, as an in-toto statement
envelope.sign(statement, key)     a Sigstore bundle v0.3 holding a DSSE envelope; what `model_signing verify key` reads
envelope.verify(data, keys)       the statement that one of these keys signed
trust.Trust                       which keys may sign which names: `trust/<namespace>/*.pub` under FREEHOLD_HOME
models.sign, models.verify        of a model in the store, whose files are its parts

Formats: https://github.com/sigstore/model-transparency, https://github.com/secure-systems-lab/dsse,
https://github.com/in-toto/attestation/tree/main/spec/v1, https://docs.sigstore.dev/about/bundle/
"""
