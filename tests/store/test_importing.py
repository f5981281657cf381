import json
import os
import stat

import pytest

from freehold.core.digest import Digest
from freehold.core.errors import BadInput, BadModelFile, FreeholdError, NotFound, Unsupported
from freehold.core.manifest import Details, Lineage, Manifest, Part
from freehold.store.check import prune
from freehold.store.importing import import_folder, import_gguf, materialise
from tests.adapters import write_adapter
from tests.formats.ggufs import Raw
from tests.store import models
from tests.store.models import assert_whole, blob_count, bytes_of, leftovers, name


def untouched(store):
    assert store.list() == []
    assert leftovers(store) == []
    assert blob_count(store) == 0


def test_a_gguf_file(store, tmp_path):
    path = models.gguf(tmp_path / "tiny.gguf")
    lineage = Lineage(source="here")
    manifest = import_gguf(store, path, name("tiny"), lineage=lineage)
    assert store.get(name("tiny")) == manifest
    assert bytes_of(store, manifest) == {"tiny.gguf": path.read_bytes()}
    assert manifest.part("gguf").size == path.stat().st_size
    assert manifest.details.architecture == "llama"
    assert manifest.details.context_length == 128
    assert manifest.details.quantization == "Q8_0"
    assert manifest.lineage == lineage
    assert manifest.licence == "apache-2.0"
    assert path.exists()
    assert_whole(store)
    assert prune(store).blobs == ()


def test_a_gguf_file_moved_in_with_evidence(store, tmp_path):
    path = models.gguf(tmp_path / "tiny.gguf")
    proof = store.add_bytes(b"{}")
    manifest = import_gguf(store, path, name("tiny"), evidence=[proof], licence="MIT", move=True)
    assert not path.exists()
    assert (manifest.evidence, manifest.licence) == ((proof,), "MIT")
    assert_whole(store)


def test_the_same_bytes_give_the_same_digest(store, tmp_path):
    path = models.gguf(tmp_path / "tiny.gguf")
    first = import_gguf(store, path, name("a"))
    assert import_gguf(store, path, name("b")) == first
    assert blob_count(store) == 2


def test_an_odd_file_name_is_replaced(store, tmp_path):
    path = models.gguf(tmp_path / ".. x\n.gguf")
    assert import_gguf(store, path, name("org/tiny:q4")).parts[0].filename == "tiny.gguf"


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        ({"split__count": 3}, "parts of a split"),
        ({"general__type": "mmproj"}, "type 'mmproj'"),
    ],
)
def test_ggufs_that_are_no_whole_model(store, tmp_path, keys, error):
    with pytest.raises(Unsupported, match=error) as caught:
        import_gguf(store, models.gguf(tmp_path / "x.gguf", **keys), name("x"))
    assert caught.value.remedy
    untouched(store)


def test_bad_gguf_files_leave_nothing_behind(store, tmp_path):
    path = models.gguf(tmp_path / "x.gguf")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadModelFile, match="truncated"):
        import_gguf(store, path, name("x"))
    path.write_bytes(b"")
    with pytest.raises(BadModelFile, match="empty"):
        import_gguf(store, path, name("x"))
    with pytest.raises(NotFound):
        import_gguf(store, tmp_path / "none.gguf", name("x"))
    with pytest.raises(BadInput):
        import_gguf(store, tmp_path, name("x"))
    untouched(store)


def test_a_failed_import_removes_what_it_added(store, tmp_path):
    path = models.gguf(tmp_path / "x.gguf")
    with pytest.raises(NotFound):
        import_gguf(store, path, name("x"), evidence=[Digest.of_bytes(b"absent")])
    untouched(store)


def test_a_folder(store, tmp_path):
    source = models.folder(tmp_path / "model")
    (source / "README.md").write_text("A card")
    (source / "LICENSE").write_text("MIT")
    (source / "special_tokens_map.json").write_text("{}")
    (source / "training_args.bin").write_bytes(b"a pickle nobody opens")
    (source / "modeling_evil.py").write_text("raise SystemExit")
    (source / "subfolder").mkdir()
    manifest = import_folder(store, source, name("tiny"), licence="MIT")
    assert {part.filename: part.role for part in manifest.parts} == {
        "LICENSE": "licence",
        "README.md": "card",
        "chat_template.jinja": "chat_template",
        "config.json": "config",
        "generation_config.json": "generation_config",
        "model.safetensors": "weights",
        "special_tokens_map.json": "other",
        "tokenizer.json": "tokenizer",
        "tokenizer_config.json": "tokenizer_config",
    }
    assert manifest.details == Details("llama", 128, "BF16", 256, 64)
    assert bytes_of(store, manifest) == {p.filename: (source / p.filename).read_bytes() for p in manifest.parts}
    assert_whole(store)


def test_a_folder_in_parts(store, tmp_path):
    source = models.sharded(tmp_path / "model")
    manifest = import_folder(store, source, name("tiny"))
    assert [p.filename for p in manifest.parts if p.role == "weights"] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    assert manifest.part("weights_index")
    assert manifest.details.parameters == 192


def test_an_adapter(store, tmp_path):
    manifest = import_folder(store, models.adapter(tmp_path / "adapter"), name("tiny"))
    assert {part.role for part in manifest.parts} == {"adapter", "adapter_config", "card"}
    assert manifest.details.parameters == 64


def test_nested_text_config(store, tmp_path):
    source = models.folder(tmp_path / "model")
    text = {"hidden_size": 32, "max_position_embeddings": 99}
    (source / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": text}))
    assert import_folder(store, source, name("x")).details == Details("gemma3", 128, "BF16", 99, 32)


def place(tensor, file):
    def change(source):
        index = source / "model.safetensors.index.json"
        content = json.loads(index.read_text())
        content["weight_map"][tensor] = file
        index.write_text(json.dumps(content))

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("[1]"), "not a JSON object"),
        (lambda f: (f / "config.json").write_text("{" * 100_000), "not a JSON object"),
        (lambda f: (f / "config.json").write_bytes(b'{"a": "\xff"}'), "not a JSON object"),
        (lambda f: (f / "config.json").write_text("{}"), "model_type"),
        (lambda f: (f / "config.json").write_text('{"model_type": "a/../b"}'), "model_type"),
        (lambda f: (f / "config.json").write_text('{"model_type": "a", "hidden_size": -1}'), "hidden_size"),
        (lambda f: (f / "config.json").write_text('{"model_type": "a", "hidden_size": "64"}'), "hidden_size"),
        (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer.json"),
        (lambda f: (f / "tokenizer.json").write_text(""), "not a JSON object"),
        (lambda f: (f / "model.safetensors").unlink(), "no weights"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 100), "not a safetensors"),
        (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "pickle"),
        (lambda f: (f / "model.safetensors").rename(f / "consolidated.00.pth"), "pickle"),
        (lambda f: models.safetensors(f / "model.safetensors", ()), "holds no weights"),
        (lambda f: (f / "extra.json").symlink_to("/etc/passwd"), "leaves the folder"),
        (lambda f: (f / "up").symlink_to(".."), "leaves the folder"),
        (lambda f: (f / "gone").symlink_to("nowhere"), "leads nowhere"),
        (lambda f: (f / "loop").symlink_to("loop"), "leads nowhere"),
        (lambda f: os.mkfifo(f / "pipe"), "neither a file"),
    ],
)
def test_folders_that_cannot_be_used(store, tmp_path, change, reason):
    source = models.folder(tmp_path / "model")
    change(source)
    with pytest.raises(BadModelFile, match=reason) as caught:
        import_folder(store, source, name("x"))
    assert caught.value.remedy
    assert caught.value.message.isprintable()
    untouched(store)


def test_two_weight_files_without_an_index(store, tmp_path):
    source = models.folder(tmp_path / "model")
    (source / "model.safetensors").rename(source / "one.safetensors")
    import_folder(store, source, name("single"))
    models.safetensors(source / "two.safetensors", ("c",))
    with pytest.raises(BadModelFile, match=r"no model\.safetensors\.index"):
        import_folder(store, source, name("x"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (place("a", "../../etc/passwd.safetensors"), "not a file beside it"),
        (place("a", "/etc/passwd"), "not a file beside it"),
        (place("a", "..\\x.safetensors"), "not a file beside it"),
        (place("a", "sub/x.safetensors"), "not a file beside it"),
        (place("a", "config.json"), "not a file beside it"),
        (place("a", 5), "not a file beside it"),
        (place("a", "model-00003-of-00002.safetensors"), "missing"),
        (place("a", "model-00002-of-00002.safetensors"), "is not in"),
        (place("ghost", "model-00002-of-00002.safetensors"), "is not in"),
        (lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": []}'), "weight_map"),
        (lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {}}'), "weight_map"),
        (lambda f: (f / "model-00002-of-00002.safetensors").unlink(), "missing"),
        (lambda f: models.safetensors(f / "model-00002-of-00002.safetensors", ("c", "d")), "does not place"),
    ],
)
def test_an_index_that_does_not_fit(store, tmp_path, change, reason):
    source = models.sharded(tmp_path / "model")
    change(source)
    with pytest.raises(BadModelFile, match=reason):
        import_folder(store, source, name("x"))
    untouched(store)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f: (f / "adapter_config.json").write_text("{}"), "peft_type"),
        (lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"), "pickle"),
        (lambda f: (f / "adapter_model.safetensors").unlink(), "no weights"),
    ],
)
def test_adapters_that_cannot_be_used(store, tmp_path, change, reason):
    source = models.adapter(tmp_path / "adapter")
    change(source)
    with pytest.raises(BadModelFile, match=reason):
        import_folder(store, source, name("x"))
    untouched(store)


def test_what_is_no_folder(store, tmp_path):
    with pytest.raises(NotFound):
        import_folder(store, tmp_path / "none", name("x"))
    models.gguf(tmp_path / "x.gguf")
    with pytest.raises(BadModelFile, match="not a folder"):
        import_folder(store, tmp_path / "x.gguf", name("x"))
    with pytest.raises(BadModelFile) as caught:
        import_folder(store, tmp_path, name("x"))
    assert ".gguf" in caught.value.remedy


def test_links_inside_the_folder_and_hugging_face_caches(store, tmp_path):
    source = models.folder(tmp_path / "model")
    (source / "model.safetensors").rename(source / "real.bin")
    (source / "model.safetensors").symlink_to("real.bin")
    import_folder(store, source, name("linked"))
    snapshot = models.folder(tmp_path / "models--org--x" / "snapshots" / "abc")
    blobs = tmp_path / "models--org--x" / "blobs"
    blobs.mkdir()
    for path in list(snapshot.iterdir()):
        path.rename(blobs / path.name)
        path.symlink_to(blobs / path.name)
    assert import_folder(store, snapshot, name("cached")) == store.get(name("linked"))


def test_a_model_as_a_folder_again(store, tmp_path):
    source = models.folder(tmp_path / "model", weights=1 << 20)
    manifest = import_folder(store, source, name("tiny"))
    out = tmp_path / "out" / "deep"
    materialise(store, manifest, out)
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in source.iterdir())
    for path in source.iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes()
    assert (out / "model.safetensors").stat().st_nlink == 2
    assert (out / "config.json").stat().st_nlink == 1
    assert (out / "config.json").stat().st_mode & stat.S_IWUSR
    (out / "config.json").write_text("edited")
    materialise(store, manifest, out)
    assert (out / "config.json").read_bytes() == (source / "config.json").read_bytes()
    assert_whole(store)


def test_a_materialised_folder_can_be_imported(store, tmp_path):
    manifest = import_folder(store, models.sharded(tmp_path / "model"), name("tiny"))
    materialise(store, manifest, tmp_path / "out")
    assert import_folder(store, tmp_path / "out", name("again")) == manifest


def test_what_sentence_transformers_says_of_pooling_comes_along(store, tmp_path):
    source = models.folder(tmp_path / "model")
    (source / "modules.json").write_text("[]")
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling" / "config.json").write_text('{"pooling_mode_lasttoken": true}')
    manifest = import_folder(store, source, name("tiny"))
    materialise(store, manifest, tmp_path / "out")
    assert (tmp_path / "out" / "modules.json").read_text() == "[]"
    assert (tmp_path / "out" / "1_Pooling.json").read_text() == '{"pooling_mode_lasttoken": true}'
    assert import_folder(store, tmp_path / "out", name("again")) == manifest
    (source / "1_Pooling").rename(tmp_path / "elsewhere")
    (source / "1_Pooling").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadModelFile, match="leaves the folder"):
        import_folder(store, source, name("led-out"))


@pytest.mark.parametrize("filename", ["../evil", "/etc/evil", "a/b", "", ".", "..", ".hidden", "a\nb", "x" * 300])
def test_a_manifest_cannot_write_outside_the_folder(store, tmp_path, filename):
    manifest = Manifest(parts=(Part("other", store.add_bytes(b"x"), 1, filename),))
    with pytest.raises(BadModelFile):
        materialise(store, manifest, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_manifest_with_a_file_name_twice(store, tmp_path):
    part = Part("other", store.add_bytes(b"x"), 1, "same")
    with pytest.raises(BadModelFile, match="same"):
        materialise(store, Manifest(parts=(part, part)), tmp_path / "out")


def test_a_link_in_the_way_is_replaced_not_followed(store, tmp_path):
    manifest = Manifest(parts=(Part("other", store.add_bytes(b"x"), 1, "file"),))
    victim, out = tmp_path / "victim", tmp_path / "out"
    victim.write_text("mine")
    out.mkdir()
    (out / "file").symlink_to(victim)
    materialise(store, manifest, out)
    assert victim.read_text() == "mine"
    assert (out / "file").read_text() == "x"


def test_a_part_of_another_size_than_said(store, tmp_path):
    manifest = Manifest(parts=(Part("other", store.add_bytes(b"x"), 2, "file"),))
    with pytest.raises(FreeholdError, match="size"):
        materialise(store, manifest, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_materialised_model_is_the_model(store, tmp_path):
    """Twice into the same folder is the same bytes, and what somebody edits there stays out of the store."""
    manifest = models.kept(store, [b"one", b"2" * (1 << 20)])
    for _ in range(2):
        materialise(store, manifest, tmp_path / "out")
        assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == bytes_of(store, manifest)
    (tmp_path / "out" / "part0").write_bytes(b"edited")
    materialise(store, manifest, tmp_path / "out")
    assert (tmp_path / "out" / "part0").read_bytes() == b"one"
    assert store.path(manifest.parts[0].digest).read_bytes() == b"one"


def test_a_file_that_is_no_model_by_itself(store, tmp_path):
    """A later part of a model in several files need not say its architecture; alone it is no model."""
    raw = Raw().start(1, 1).number_key("split.no", 1, 2, "H").tensor("x", (32, 2), 8, 0)
    with pytest.raises(BadModelFile, match="architecture is missing"):
        import_gguf(store, raw.write(tmp_path / "part.gguf", 68), name("part"))
    untouched(store)


def test_an_adapter_is_kept_as_one(store, tmp_path):
    manifest = import_gguf(store, write_adapter(tmp_path / "a.gguf"), name("tuned"))
    assert [(part.role, part.filename) for part in manifest.parts] == [("adapter", "a.gguf")]
    assert_whole(store)
