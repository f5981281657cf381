"""Manifests: canonical, and read back as written."""

import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.digest import Digest
from freehold.core.errors import Damaged
from freehold.core.manifest import Details, Lineage, Manifest, Part, Role

A, B = Digest.of_bytes(b"a"), Digest.of_bytes(b"b")

label = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
digests = st.binary(max_size=4).map(Digest.of_bytes)
parts = st.builds(
    Part,
    role=st.sampled_from(["gguf", "config", "tokenizer", "other"]),
    digest=digests,
    size=st.integers(0, 1 << 60),
    filename=label,
)
manifests = st.builds(
    Manifest,
    parts=st.lists(parts, max_size=4).map(tuple),
    details=st.builds(Details, architecture=label, parameters=st.integers(0, 1 << 50), quantization=label),
    lineage=st.builds(Lineage, base=digests | st.none(), data=st.lists(digests, max_size=3).map(tuple), source=label),
    evidence=st.lists(digests, max_size=3).map(tuple),
    licence=label,
)


@given(manifests)
def test_round_trip(manifest: Manifest) -> None:
    again = Manifest.decode(manifest.encode())
    assert again == manifest
    assert again.digest == manifest.digest
    assert again.encode() == manifest.encode()


@given(manifests, manifests)
def test_equal_manifests_have_equal_digests_and_others_do_not(one: Manifest, other: Manifest) -> None:
    assert (one == other) == (one.digest == other.digest)


def test_the_encoding_is_pinned() -> None:
    """Digests of models that exist must not change with the code."""
    manifest = Manifest(parts=(Part("gguf", A, 5, "m.gguf"),), lineage=Lineage(base=B), licence="Apache-2.0")
    assert str(manifest.digest) == "sha256:6bbd245c1602423c313defec80c43092c30e8b07a316f451669bc101c13fff88"


def test_size_and_part() -> None:
    manifest = Manifest(
        parts=(Part("config", A, 2, "config.json"), Part("weights", B, 40, "w"), Part("weights", A, 1, "x"))
    )
    assert manifest.size == 43
    assert manifest.part("weights") == Part("weights", B, 40, "w")
    assert manifest.part("gguf") is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b'{"parts":[{"role":"gguf","digest":{"text":"sha256:0"},"size":1,"filename":"x"}]}',
        b'{"parts":[{"role":"engine","digest":{"text":"sha256:0"},"size":1,"filename":"x"}]}',
        b'{"parts":7}',
        b"\xff\xfe",
        b'{"parts":[],"licence":"\xff"}',
        b'{"parts":[],"x":' + b"[" * 100_000,
    ],
)
def test_nonsense_is_damage(data: bytes) -> None:
    with pytest.raises(Damaged) as caught:
        Manifest.decode(data)
    assert caught.value.remedy
    assert "\n" not in caught.value.message


def test_every_role_can_be_stored() -> None:
    roles = typing.get_args(Role)
    manifest = Manifest(parts=tuple(Part(role, A, 1, role) for role in roles))
    assert Manifest.decode(manifest.encode()).parts == manifest.parts


@pytest.mark.parametrize("data", [b"", b"[]", b'{"x":' * 5000, b'{"parts": [{"role": "gguf\xff"}]}', b"\xff"])
def test_bytes_that_are_no_manifest_are_damage(data: bytes) -> None:
    with pytest.raises(Damaged, match="unreadable manifest"):
        Manifest.decode(data)
