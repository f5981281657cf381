"""The formats to the byte, spellings of paths, and key files that somebody put there by hand."""

import base64
import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.digest import Digest
from freehold.core.errors import BadInput, Forbidden, FreeholdError, MissingExtra, NotFound
from freehold.core.manifest import Manifest, Part
from freehold.core.settings import Settings
from freehold.proofs.sign import envelope, keys, models, statement, trust
from freehold.proofs.sign.keys import PrivateKey
from tests.store.models import name

NAMES = st.text(st.sampled_from("ab./-é漢 "), min_size=1, max_size=12)
FILES = st.dictionaries(NAMES, st.binary(max_size=4).map(Digest.of_bytes), min_size=1, max_size=6)


def _refused(data: bytes) -> str:
    with pytest.raises(FreeholdError) as caught:
        statement.parse(data)
    assert "\n" not in caught.value.line()
    return caught.value.line()


@given(FILES)
def test_a_statement_comes_back_as_it_was(files: dict[str, Digest]) -> None:
    made = statement.of("m", files)
    again = statement.parse(made.encode())
    assert again == made
    assert again.files == files
    assert again.encode() == made.encode()


@given(FILES, st.randoms(use_true_random=False))
def test_a_statement_does_not_depend_on_the_order_of_files(files: dict[str, Digest], draw) -> None:
    order = list(files.items())
    draw.shuffle(order)
    assert sorted(statement.differences(statement.of("m", files), dict(order))) == []
    if len({Path(name) for name in files}) == len(files):
        assert statement.of("m", dict(order)).encode() == statement.of("m", files).encode()


def test_the_digest_of_the_whole_is_that_of_the_files_digests_in_order() -> None:
    files = {"b": Digest.of_bytes(b"2"), "a": Digest.of_bytes(b"1")}
    wanted = hashlib.sha256(hashlib.sha256(b"1").digest() + hashlib.sha256(b"2").digest()).hexdigest()
    assert statement.of("m", files).subject[0].digest == {"sha256": wanted}


@given(FILES, FILES)
def test_differences_name_every_file_that_differs_and_no_other(signed: dict[str, Digest], there: dict[str, Digest]):
    told = statement.differences(statement.of("m", signed), there)
    differing = {file for file in signed.keys() | there.keys() if signed.get(file) != there.get(file)}
    assert len(told) == len(differing)
    assert all(any(line.startswith(file) for line in told) for file in differing)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("digest", "0" * 63),
        ("digest", "A" * 64),
        ("algorithm", "md5"),
        ("name", ""),
        ("name", "x" * 4097),
        ("name", None),
    ],
)
def test_a_file_that_cannot_be_said_so_is_refused(key: str, value: object) -> None:
    payload = json.loads(statement.of("m", {"a": Digest.of_bytes(b"1")}).encode())
    payload["predicate"]["resources"][0][key] = value
    assert "not about files" in _refused(json.dumps(payload).encode())


def test_other_ways_of_listing_files_are_refused() -> None:
    payload = json.loads(statement.of("m", {"a": Digest.of_bytes(b"1")}).encode())
    for key, value in (("method", "shards"), ("hash_type", "blake2b"), ("ignore_paths", ["x"] * 1001)):
        changed = json.loads(json.dumps(payload))
        changed["predicate"]["serialization"][key] = value
        assert "not about files" in _refused(json.dumps(changed).encode())


@pytest.mark.parametrize("junk", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"subject": ' + b"[" * 100_000, b"null"])
def test_junk_is_no_statement(junk: bytes) -> None:
    _refused(junk)


@given(st.binary(max_size=200))
def test_what_is_signed_is_what_dsse_says(payload: bytes) -> None:
    """PAE of the DSSE specification: "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body."""
    kind = b"application/vnd.in-toto+json"
    parts = [b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload]
    assert envelope.preauthentication(payload) == b" ".join(parts)


def test_one_of_several_signatures_is_enough(key: PrivateKey, stranger: PrivateKey) -> None:
    signed = statement.of("m", {"a": Digest.of_bytes(b"1")})
    ours, theirs = (json.loads(envelope.sign(signed, each)) for each in (key, stranger))
    ours["dsseEnvelope"]["signatures"] = [
        *theirs["dsseEnvelope"]["signatures"],
        *ours["dsseEnvelope"]["signatures"],
    ]
    assert envelope.verify(json.dumps(ours).encode(), [key.public])[1] is key.public


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("dsseEnvelope", "payload"), "%%%", "base64"),
        (("dsseEnvelope", "payload"), "é", "base64"),
        (("dsseEnvelope", "payloadType"), "text/plain", "payload type"),
        (("dsseEnvelope", "signatures"), [], "model-signing"),
        (("dsseEnvelope", "signatures"), [{"sig": "AAAA"}] * 17, "model-signing"),
        (("mediaType",), "application/json", "media"),
        (("verificationMaterial", "publicKey", "hint"), "x" * 257, "model-signing"),
        (("verificationMaterial", "publicKey"), {"hint": 5}, "model-signing"),
    ],
)
def test_a_bundle_in_another_form_says_which(key: PrivateKey, path: tuple[str, ...], value: object, said: str) -> None:
    bundle = json.loads(envelope.sign(statement.of("m", {"a": Digest.of_bytes(b"1")}), key))
    place = bundle
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(BadInput, match=said) as caught:
        envelope.verify(json.dumps(bundle).encode(), [key.public], "model.sig")
    assert caught.value.message.startswith("model.sig")


def test_a_hint_is_not_a_way_to_write_on_the_terminal(stranger: PrivateKey) -> None:
    bundle = json.loads(envelope.sign(statement.of("m", {"a": Digest.of_bytes(b"1")}), stranger))
    bundle["verificationMaterial"]["publicKey"]["hint"] = "\x1b[2J\nall is well"
    with pytest.raises(Forbidden, match="not by a key that is trusted") as caught:
        envelope.verify(json.dumps(bundle).encode(), [])
    assert caught.value.message.isprintable()


def test_a_signature_is_of_its_bytes_and_of_its_key(key: PrivateKey, stranger: PrivateKey) -> None:
    signature = key.sign(b"text")
    assert key.public.verifies(signature, b"text")
    assert not stranger.public.verifies(signature, b"text")
    assert not key.public.verifies(signature, b"text ")
    assert not key.public.verifies(signature[:-1], b"text")
    assert not key.public.verifies(b"", b"text")
    assert key.public.hint == hashlib.sha256(key.public.pem).hexdigest()


def test_a_public_key_is_known_by_its_content_not_by_its_spelling(key: PrivateKey) -> None:
    """A file with Windows line ends and a comment is the same key."""
    text = b"ours\r\n" + key.public.pem.replace(b"\n", b"\r\n") + b"\r\n"
    assert keys.parse_public(text, "x").hint == key.public.hint


def test_signing_needs_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cryptography", None)
    with pytest.raises(MissingExtra, match="cryptography"):
        keys.make(tmp_path / "key")
    assert list(tmp_path.iterdir()) == []


def _model(place: Path) -> Path:
    place.mkdir()
    (place / "a").write_text("a")
    return place


def test_a_signature_inside_the_folder_is_found_however_paths_are_spelt(
    key: PrivateKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _model(tmp_path / "m")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alias").symlink_to(model)
    spellings = [Path("m"), model, Path("m/../m"), tmp_path / "alias"]
    for signed in spellings:
        models.sign_path(signed, key, signed / "own.sig")
        for read in spellings:
            for given_ in spellings:
                verified = models.verify_path(read, [key.public], given_ / "own.sig")
                assert verified.key.hint == key.public.hint


def test_a_signature_that_is_made_again_does_not_sign_the_one_before(key: PrivateKey, tmp_path: Path) -> None:
    model = _model(tmp_path / "m")
    for _ in range(2):
        models.sign_path(model, key)
    signed = json.loads((model / "model.sig").read_bytes())["dsseEnvelope"]["payload"]
    assert list(statement.parse(base64.b64decode(signed)).files) == ["a"]


def test_what_the_signer_left_out_is_left_out_again(key: PrivateKey, tmp_path: Path) -> None:
    model = _model(tmp_path / "m")
    files = models.files_at(model, model / "model.sig")
    payload = json.loads(statement.of("m", files).encode())
    payload["predicate"]["serialization"]["ignore_paths"] = ["notes"]
    signed = statement.parse(json.dumps(payload).encode())
    (model / "model.sig").write_bytes(envelope.sign(signed, key))
    (model / "notes").write_text("later")
    assert models.verify_path(model, [key.public]).subject == "m"
    (model / "other").write_text("later")
    with pytest.raises(Forbidden, match="other was not signed"):
        models.verify_path(model, [key.public])


def test_a_pipe_in_a_folder_is_refused_and_not_waited_for(key: PrivateKey, tmp_path: Path) -> None:
    model = _model(tmp_path / "m")
    os.mkfifo(model / "pipe")
    with pytest.raises(BadInput, match="pipe"):
        models.sign_path(model, key)


def test_more_files_than_a_statement_holds_are_refused(
    key: PrivateKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _model(tmp_path / "m")
    (model / "b").write_text("b")
    monkeypatch.setattr(models, "_MAX_PATHS", 1)
    with pytest.raises(BadInput, match="more than 1 files"):
        models.sign_path(model, key)


def test_two_parts_with_one_file_name_cannot_be_signed() -> None:
    parts = tuple(Part("other", Digest.of_bytes(data), 1, "same") for data in (b"1", b"2"))
    with pytest.raises(BadInput, match="one file name"):
        models.files_of(Manifest(parts=parts))


def test_a_key_that_was_copied_there_under_another_name_can_be_removed(key: PrivateKey, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    place = trust.folder(settings) / "org"
    place.mkdir(parents=True)
    (place / f"{'0' * 16}.pub").write_bytes(key.public.pem)
    (place / "notes.txt").write_text("not a key")
    assert [found.hint for found in trust.for_name(settings, name("org/m"))] == [key.public.hint]
    trust.remove(settings, key.public.hint[:8])
    assert trust.for_name(settings, name("org/m")) == []
    assert (place / "notes.txt").exists()


def test_a_trusted_file_that_holds_no_key_is_named(key: PrivateKey, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    path = trust.add(settings, key.public, "org")
    path.write_text("nothing")
    with pytest.raises(BadInput, match=path.name):
        trust.for_name(settings, name("org/m"))


def test_a_key_is_removed_from_one_namespace_alone(key: PrivateKey, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    for space in ("one", "two"):
        trust.add(settings, key.public, space)
        trust.add(settings, key.public, space)
    assert [found.namespace for found in trust.remove(settings, key.public.hint, "two")] == ["two"]
    assert [found.namespace for found in trust.trusted(settings)] == ["one"]
    with pytest.raises(NotFound):
        trust.remove(settings, key.public.hint, "two")
