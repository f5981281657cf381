"""Signed files, folders, bundles and models: as they were signed, by whom, or refused in one line."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.digest import Digest
from freehold.core.errors import BadInput, BadName, Damaged, Forbidden, FreeholdError, NotFound
from freehold.core.settings import Settings
from freehold.formats.bundle.layout import PIECE
from freehold.proofs.sign import envelope, models, statement, trust
from freehold.proofs.sign.keys import PrivateKey
from freehold.store import Store, bundles, signatures
from freehold.store.importing import import_folder, import_gguf
from tests.store.models import folder, gguf, name

FILES = {"b/c": Digest.of_bytes(b"1"), "a": Digest.of_bytes(b"2"), "b-c": Digest.of_bytes(b"3")}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "home" / "store") as opened:
        yield opened


def test_the_form_is_that_of_model_signing(key: PrivateKey) -> None:
    bundle = json.loads(envelope.sign(statement.of("m", FILES), key))
    assert bundle["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert bundle["verificationMaterial"] == {"publicKey": {"hint": key.public.hint}, "tlogEntries": []}
    payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    assert payload["_type"] == "https://in-toto.io/Statement/v1"
    assert payload["predicateType"] == "https://model_signing/signature/v1.0"
    assert [resource["name"] for resource in payload["predicate"]["resources"]] == ["a", "b/c", "b-c"]
    assert payload["predicate"]["serialization"]["method"] == "files"


def test_what_was_signed_comes_back(key: PrivateKey, stranger: PrivateKey) -> None:
    signed = statement.of("m", FILES)
    found, by = envelope.verify(envelope.sign(signed, key), [stranger.public, key.public])
    assert found == signed
    assert by is key.public
    assert statement.differences(found, FILES) == []


def test_by_nobody_that_is_trusted(key: PrivateKey, stranger: PrivateKey) -> None:
    signature = envelope.sign(statement.of("m", FILES), stranger)
    for keys in ([], [key.public]):
        with pytest.raises(Forbidden, match=f"not by a key that is trusted here.*{stranger.public.hint[:16]}"):
            envelope.verify(signature, keys)


def changed(signature: bytes, **edits: object) -> bytes:
    """The signature over another payload than was signed."""
    bundle = json.loads(signature)
    payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"])) | edits
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    return json.dumps(bundle).encode()


def test_a_changed_statement_is_noticed(key: PrivateKey) -> None:
    signature = envelope.sign(statement.of("m", FILES), key)
    with pytest.raises(Forbidden, match="is wrong"):
        envelope.verify(changed(signature, subject=[{"name": "n", "digest": {}}]), [key.public])


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"_type": "https://in-toto.io/Statement/v0.1"}, "not a model"),
        ({"predicateType": "https://slsa.dev/provenance/v1"}, "slsa.dev"),
        ({"subject": [{"name": "m", "digest": {"sha256": "0" * 64}}]}, "contradicts"),
        ({"subject": []}, "not about files"),
        ({"predicate": {}}, "not about files"),
    ],
)
def test_signed_nonsense_is_refused(key: PrivateKey, edit: dict[str, object], said: str) -> None:
    payload = json.loads(statement.of("m", FILES).encode()) | edit
    with pytest.raises(BadInput, match=said):
        statement.parse(json.dumps(payload).encode())


def test_a_file_named_twice_is_refused() -> None:
    payload = json.loads(statement.of("m", {"a": FILES["a"]}).encode())
    payload["predicate"]["resources"] *= 2
    with pytest.raises(BadInput, match="twice"):
        statement.parse(json.dumps(payload).encode())


@given(st.binary(max_size=300))
def test_no_junk_is_a_signature(key: PrivateKey, junk: bytes) -> None:
    with pytest.raises(FreeholdError):
        envelope.verify(junk, [key.public])


SIGNED: dict[str, bytes] = {}


@given(st.data())
def test_every_changed_byte_of_a_signature_is_refused_or_harmless(key: PrivateKey, data: st.DataObject) -> None:
    whole = SIGNED.setdefault("x", envelope.sign(statement.of("m", FILES), key))
    place = data.draw(st.integers(0, len(whole) - 1))
    bad = whole[:place] + bytes([data.draw(st.integers(0, 255))]) + whole[place + 1 :]
    try:
        found, _ = envelope.verify(bad, [key.public])
    except FreeholdError:
        return
    assert found.files == FILES


def test_a_file_and_a_folder(key: PrivateKey, tmp_path: Path) -> None:
    (tmp_path / "m" / "sub").mkdir(parents=True)
    (tmp_path / "m" / "a").write_text("a")
    (tmp_path / "m" / "sub" / "b").write_text("b")
    (tmp_path / "m" / ".git").mkdir()
    for path, sig in ((tmp_path / "m", "m/model.sig"), (tmp_path / "m" / "a", "m/a.sig")):
        assert models.sign_path(path, key) == tmp_path / sig
        assert models.verify_path(path, [key.public]).subject == path.name
        (tmp_path / "m" / "a.sig").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda m: (m / "a").write_text("x"), "a has changed"),
        (lambda m: (m / "a").unlink(), "a is missing"),
        (lambda m: (m / "new").write_text(""), "new was not signed"),
        (lambda m: [(m / n).write_text("") for n in ("new", "new2")], "new was not signed and 1 more"),
        (lambda m: (m / "model.sig").unlink(), "is not signed"),
        (lambda m: (m / "model.sig").write_text("{}"), "not in the model-signing format"),
        (lambda m: (m / "link").symlink_to("/etc/passwd"), "neither a file nor a folder"),
    ],
)
def test_what_is_not_as_it_was_signed(key: PrivateKey, tmp_path: Path, spoil: object, said: str) -> None:
    model = tmp_path / "m"
    model.mkdir()
    for file in ("a", "b"):
        (model / file).write_text(file)
    models.sign_path(model, key)
    spoil(model)  # type: ignore[operator]
    with pytest.raises((Forbidden, BadInput), match=said):
        models.verify_path(model, [key.public])


def test_nothing_to_sign(key: PrivateKey, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no files"):
        models.sign_path(tmp_path, key)
    with pytest.raises(NotFound, match="no such file"):
        models.sign_path(tmp_path / "none", key)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_keeps_its_signature_when_it_is_split(key: PrivateKey, store: Store, tmp_path: Path) -> None:
    import_gguf(store, gguf(tmp_path / "m.gguf", size=2 * PIECE), name("m"))
    packing = bundles.pack(store, [name("m")])
    bundles.export(store, packing, tmp_path / "x.fhb")
    models.sign_path(tmp_path / "x.fhb", key)
    (tmp_path / "x.fhb").unlink()
    bundles.export(store, packing, tmp_path / "x.fhb", split=PIECE)
    assert models.verify_path(tmp_path / "x.fhb", [key.public]).key.hint == key.public.hint


def test_a_model_in_the_store(key: PrivateKey, stranger: PrivateKey, store: Store, tmp_path: Path) -> None:
    import_folder(store, folder(tmp_path / "m"), name("org/m"))
    with pytest.raises(Forbidden, match="model org/m is not signed"):
        models.verify_model(store, name("org/m"), [key.public])
    models.sign_model(store, name("org/m"), stranger)
    models.sign_model(store, name("org/m"), key)
    assert models.verify_model(store, name("org/m"), [key.public]).key.hint == key.public.hint
    import_folder(store, folder(tmp_path / "n", seed=1), name("org/m"))
    with pytest.raises(Forbidden, match="not signed"):
        models.verify_model(store, name("org/m"), [key.public])


def test_a_signature_of_another_model_does_not_count(key: PrivateKey, store: Store, tmp_path: Path) -> None:
    import_gguf(store, gguf(tmp_path / "a.gguf"), name("a"))
    import_gguf(store, gguf(tmp_path / "b.gguf", seed=1), name("b"))
    signature = models.sign_model(store, name("a"), key)
    signatures.add(store.folder, store.resolve(name("b")), [signature])
    with pytest.raises(Forbidden, match="of something else"):
        models.verify_model(store, name("b"), [key.public])


def test_damage_is_found_when_verifying(key: PrivateKey, store: Store, tmp_path: Path) -> None:
    model = import_gguf(store, gguf(tmp_path / "a.gguf"), name("a"))
    models.sign_model(store, name("a"), key)
    blob = store.path(model.parts[0].digest)
    blob.chmod(0o644)
    blob.write_bytes(b"x" * blob.stat().st_size)
    with pytest.raises(Damaged):
        models.verify_model(store, name("a"), [key.public])


def test_trust(key: PrivateKey, stranger: PrivateKey, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert trust.trusted(settings) == []
    trust.add(settings, key.public, "org")
    trust.add(settings, stranger.public, "_all")
    trust.add(settings, stranger.public, "_")
    assert [one.namespace for one in trust.trusted(settings)] == ["_", "_all", "org"]
    assert {found.hint for found in trust.for_name(settings, name("org/m"))} == {key.public.hint, stranger.public.hint}
    assert {found.hint for found in trust.for_name(settings, name("m"))} == {stranger.public.hint}
    assert len(trust.remove(settings, stranger.public.hint[:12])) == 2
    with pytest.raises(NotFound):
        trust.remove(settings, key.public.hint, "other")
    for hint in ("", "../..", "zzzzzzzz", "abc"):
        with pytest.raises(BadInput):
            trust.remove(settings, hint)
    for space in ("../x", "a/b", ".", ""):
        if space:
            with pytest.raises(BadName):
                trust.add(settings, key.public, space)
    assert trust.namespace("") == "_"


def test_the_policy(key: PrivateKey, stranger: PrivateKey, store: Store, tmp_path: Path) -> None:
    lax, strict = (Settings(home=tmp_path / "home", require_signature=on) for on in (False, True))
    import_gguf(store, gguf(tmp_path / "a.gguf"), name("org/a"))
    models.require(lax, store, name("org/a"))
    with pytest.raises(Forbidden, match="no key is trusted for it") as caught:
        models.require(strict, store, name("org/a"))
    assert "freehold trust add FILE.pub --for org" in caught.value.remedy
    trust.add(strict, key.public, "org")
    with pytest.raises(Forbidden, match="is not signed"):
        models.require(strict, store, name("org/a"))
    models.sign_model(store, name("org/a"), stranger)
    with pytest.raises(Forbidden, match="not by a key that is trusted"):
        models.require(strict, store, name("org/a"))
    models.sign_model(store, name("org/a"), key)
    models.require(strict, store, name("org/a"))
