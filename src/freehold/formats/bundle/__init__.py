"""Bundles: models in one uncompressed tar file that any tar program opens, and that only one sequence of bytes can be.

index.Index            what a bundle holds: names, manifests, and every file with digest and length
layout.layout(index)   the bundle's bytes as regions; a pure function of the index, so equal content gives equal bytes
writing.write(index, contents, path, split=0)    resumes what an interrupted call left
reading.Bundle.open(path)    index checked against the real length; verify() checks every byte and says what is wrong

The first member is `freehold-bundle.json` (the index), then come `blobs/sha256/<digits>` and `wheels/<file>` in order,
then `pieces.sha256` with the digest of each mebibyte before it. A header that is not bit for bit the one that the index
demands is refused, so links, devices, odd names and extra members need no rules of their own. Parts (`x.fhb.001` …) are
the same bytes cut at equal lengths: `cat x.fhb.0* > x.fhb` joins them.
"""
