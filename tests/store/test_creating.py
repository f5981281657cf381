"""Models from Modelfiles: what they hold, what they inherit, and what leaves the store as it was."""

from pathlib import Path

import pytest

from freehold import convert
from freehold.core.errors import BadInput, BadModelFile, BadName, UnknownModel, Unsupported
from freehold.core.parameters import decode_messages, decode_parameters
from freehold.formats import modelfile as modelfiles
from freehold.store import Store, creating
from freehold.store.importing import import_folder, import_gguf, materialise
from tests.adapters import write_adapter
from tests.store.models import adapter, assert_whole, blob_count, bytes_of, folder, gguf, name
from tests.tiny import write_gguf

TEXT = '''FROM base
PARAMETER temperature 0.2
PARAMETER stop END
TEMPLATE """{{ range .Messages }}[{{ .Role }}]{{ .Content }}{{ end }}[assistant]"""
SYSTEM Be kind
MESSAGE user Hi
MESSAGE assistant Hello
LICENSE MIT
'''


@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Store:
    import_gguf(store, gguf(tmp_path / "base.gguf"), name("base"))
    return store


def make(store: Store, called: str, text: str, where: Path) -> None:
    creating.create(store, name(called), modelfiles.parse(text), where, convert)


def test_a_model_from_another(filled: Store, tmp_path: Path) -> None:
    make(filled, "desk:v1", TEXT, tmp_path)
    made, base = filled.get(name("desk:v1")), filled.get(name("base"))
    assert made.part("gguf") == base.part("gguf")
    assert (made.details, made.lineage.base) == (base.details, base.digest)
    held = bytes_of(filled, made)
    assert held["system.txt"] == b"Be kind"
    assert held["LICENSE"] == b"MIT"
    assert b"{{" in held["chat_template.jinja"]
    assert decode_parameters(held["parameters.json"]).stop == ("END",)
    assert [message.content for message in decode_messages(held["messages.json"])] == ["Hi", "Hello"]
    assert_whole(filled)
    before = made.digest
    make(filled, "desk:v1", TEXT, tmp_path)
    assert filled.get(name("desk:v1")).digest == before


def test_what_is_not_said_is_inherited(filled: Store, tmp_path: Path) -> None:
    make(filled, "one", TEXT, tmp_path)
    make(filled, "two", "FROM one\nSYSTEM Be short\nPARAMETER top_k 5", tmp_path)
    held = bytes_of(filled, filled.get(name("two")))
    assert held["system.txt"] == b"Be short"
    parameters = decode_parameters(held["parameters.json"])
    assert (parameters.sampling.temperature, parameters.sampling.top_k, parameters.stop) == (0.2, 5, ("END",))
    assert "messages.json" in held
    assert "chat_template.jinja" in held


def test_nothing_new_is_the_base_itself(filled: Store, tmp_path: Path) -> None:
    make(filled, "same", "FROM base", tmp_path)
    assert filled.resolve(name("same")) == filled.resolve(name("base"))


@pytest.mark.parametrize("base", ["./base.gguf", "{}/base.gguf", "./folder"])
def test_from_a_file_or_folder(store: Store, tmp_path: Path, base: str) -> None:
    gguf(tmp_path / "base.gguf")
    folder(tmp_path / "folder")
    make(store, "x", f"FROM {base.format(tmp_path)}\nSYSTEM hi", tmp_path)
    assert store.get(name("x")).part("system")
    assert_whole(store)


def test_an_adapter_beside_its_base(filled: Store, tmp_path: Path) -> None:
    write_adapter(tmp_path / "a.gguf")
    import_gguf(filled, write_gguf(tmp_path / "tiny.gguf"), name("base"))
    make(filled, "x", "FROM base\nADAPTER ./a.gguf", tmp_path)
    part = filled.get(name("x")).part("adapter")
    assert part is not None
    assert part.filename == "a.gguf"


def test_round_trip_through_a_folder(filled: Store, tmp_path: Path) -> None:
    write_adapter(tmp_path / "a.gguf")
    import_gguf(filled, write_gguf(tmp_path / "tiny.gguf"), name("base"))
    make(filled, "x", TEXT + "ADAPTER ./a.gguf\nPARAMETER num_ctx 64", tmp_path)
    text = creating.modelfile_of(filled, name("x")).text()
    materialise(filled, filled.get(name("x")), tmp_path / "out")
    make(filled, "y", text, tmp_path / "out")
    assert bytes_of(filled, filled.get(name("y"))) == bytes_of(filled, filled.get(name("x")))


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("FROM nope", UnknownModel, "no model named 'nope'"),
        ("FROM a b", BadName, "not a model name"),
        ("FROM ./none.gguf", BadInput, "line 1: FROM names ./none.gguf, which is not there"),
        ("\nFROM none.gguf", BadInput, "line 2"),
        ("FROM ./junk.gguf", BadModelFile, "junk.gguf"),
        ("FROM base\nADAPTER ./none.gguf", BadInput, "is not there"),
        ("FROM base\nADAPTER ./folder", BadInput, "a folder without adapter_config.json"),
        ("FROM base\nADAPTER ./peft", BadModelFile, "llama.embedding_length is missing"),
        ("FROM base\nADAPTER ./adapter.gguf", BadModelFile, "changes blk.0.attn_output.weight, which is not there"),
        ("FROM ./tiny.gguf\nADAPTER ./wide.gguf", BadModelFile, "changes blk.0.attn_output.weight in another shape"),
        ("FROM base\nADAPTER ./base.gguf", BadModelFile, "not an adapter"),
        ("FROM ./folder\nADAPTER ./adapter.gguf", BadModelFile, "config.json"),
        ("FROM ./tiny.gguf\nADAPTER ./adapter.gguf\nADAPTER ./adapter.gguf", BadInput, "would be called adapter.gguf"),
        ("FROM base\n\nTEMPLATE {{ .Tools }}", Unsupported, "line 3: the TEMPLATE is not of a chat format"),
        ("FROM base\nTEMPLATE {% for %}", BadModelFile, "line 2: the chat template does not work"),
        ("FROM base\nTEMPLATE {{ ''.__class__.__mro__ }}", Unsupported, "line 2"),
        ("FROM base\nTEMPLATE {{ messages.__class__.__mro__[1] }}", BadModelFile, "line 2"),
        ("FROM base\nTEMPLATE {% for i in range(99999999999) %}{% endfor %}", BadModelFile, "line 2"),
    ],
)
def test_what_is_refused_leaves_the_store_as_it_was(
    filled: Store, tmp_path: Path, text: str, error: type[Exception], said: str
) -> None:
    folder(tmp_path / "folder")
    adapter(tmp_path / "peft")
    write_adapter(tmp_path / "adapter.gguf")
    write_adapter(tmp_path / "wide.gguf", hidden=128)
    write_gguf(tmp_path / "tiny.gguf")
    (tmp_path / "junk.gguf").write_bytes(b"junk" * 100)
    before = blob_count(filled)
    for called in ("new", "base"):
        digest = filled.resolve(name("base"))
        with pytest.raises(error, match=said):
            make(filled, called, text, tmp_path)
        assert [str(entry.name) for entry in filled.list()] == ["base"]
        assert filled.resolve(name("base")) == digest
        assert blob_count(filled) == before


def test_a_second_name(filled: Store, tmp_path: Path) -> None:
    creating.copy(filled, name("base"), name("org/base:v2"))
    assert filled.get(name("org/base:v2")) == filled.get(name("base"))
    filled.remove(name("base"))
    assert_whole(filled)
    with pytest.raises(UnknownModel):
        creating.copy(filled, name("base"), name("x"))


def test_a_folder_keeps_its_own_template(store: Store, tmp_path: Path) -> None:
    import_folder(store, folder(tmp_path / "m"), name("m"))
    assert creating.modelfile_of(store, name("m")).text() == "FROM ./\n"


ODD_PATHS = ["./" + "a" * 300, "./file/m.gguf", "./none.gguf", "/" + "a/" * 3000]


@pytest.mark.parametrize("path", ODD_PATHS)
def test_a_base_that_cannot_be_there(filled: Store, tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"line 2: FROM names .* which is not there"):
        make(filled, "x", f"# odd\nFROM {path}", tmp_path)
    assert [str(entry.name) for entry in filled.list()] == ["base"]


@pytest.mark.parametrize("path", [path.removeprefix("./") for path in ODD_PATHS])
def test_an_adapter_that_cannot_be_there(filled: Store, tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    before = blob_count(filled)
    with pytest.raises(BadInput, match=r"ADAPTER .* is not there"):
        make(filled, "x", f"FROM base\nADAPTER {path}", tmp_path)
    assert ([str(entry.name) for entry in filled.list()], blob_count(filled)) == (["base"], before)


def test_a_folder_that_is_no_adapter(filled: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"folder without adapter_config\.json"):
        make(filled, "x", "FROM base\nADAPTER ./empty", tmp_path)
    with pytest.raises(BadModelFile, match="not an adapter"):
        make(filled, "x", "FROM base\nADAPTER ./base.gguf", tmp_path)
