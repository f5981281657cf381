"""Pushing to a registry and to the Hub, on loopback: what arrives, what is not sent twice, who gets a password."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold import convert
from freehold.core.digest import Digest
from freehold.core.errors import BadName, Damaged, Forbidden, FreeholdError, NotFound, Unsupported, WorkerFailed
from freehold.core.settings import Settings
from freehold.formats import modelfile as modelfiles
from freehold.proofs import card
from freehold.store import Store, creating, signatures
from freehold.store.importing import import_folder, import_gguf
from freehold.store.outbound import Outbound
from freehold.store.pushing import hub, oci
from freehold.store.pushing.registry import Registry, is_loopback
from tests.store.models import folder, gguf, name
from tests.store.push_servers import HubPlace, HubState, RegistryPlace, RegistryState, serving

TEXT = "FROM base\nSYSTEM Be kind\nPARAMETER temperature 0.5\nPARAMETER stop END\nMESSAGE user Hi\nLICENSE MIT"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return Settings(home=tmp_path)


@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Store:
    proof = store.add_bytes(
        json.dumps(
            {"facts": [{"subject": "sha256:" + "1" * 64, "name": "token_f1", "value": 0.5, "grade": "verified"}]}
        ).encode()
    )
    import_gguf(store, gguf(tmp_path / "base.gguf"), name("base"), evidence=[proof], licence="MIT")
    made = creating.create(store, name("desk"), modelfiles.parse(TEXT), tmp_path, convert)
    signatures.add(store.folder, made.digest, [b"signature"])
    return store


@pytest.fixture
def state() -> RegistryState:
    return RegistryState()


@pytest.fixture
def registry(state: RegistryState) -> Iterator[str]:
    with serving(RegistryPlace, state) as host:
        yield host


def log_in(tmp_path: Path, host: str, login: str) -> None:
    (tmp_path / "docker").mkdir()
    auth = {"auth": base64.b64encode(login.encode()).decode()}
    (tmp_path / "docker" / "config.json").write_text(json.dumps({"auths": {host: auth}}))


def test_a_model_as_ollama_lays_it_out(filled: Store, settings: Settings, registry: str, state: RegistryState) -> None:
    seen: list[tuple[int, int]] = []
    target = oci.Target.parse(f"oci://{registry}/org/desk:v1")
    digest = oci.push(filled, name("desk"), target, settings, lambda done, total: seen.append((done, total)))
    media_type, data = state.manifests["v1"]
    assert media_type == "application/vnd.docker.distribution.manifest.v2+json"
    assert Digest.of_bytes(data) == digest
    layers = {layer["mediaType"]: state.blobs[layer["digest"]] for layer in json.loads(data)["layers"]}
    prefix = "application/vnd.ollama.image."
    model = filled.get(name("desk")).part("gguf")
    assert model is not None
    assert layers[prefix + "model"] == filled.path(model.digest).read_bytes()
    assert layers[prefix + "system"] == b"Be kind"
    assert json.loads(layers[prefix + "params"]) == {"temperature": 0.5, "stop": ["END"]}
    assert json.loads(layers[prefix + "messages"]) == [{"role": "user", "content": "Hi"}]
    assert layers[prefix + "license"] == b"MIT"
    assert b"token_f1" in layers["application/vnd.freehold.proof.v1+json"]
    assert layers["application/vnd.dev.sigstore.bundle.v0.3+json"] == b"signature"
    config = json.loads(state.blobs[json.loads(data)["config"]["digest"]])
    assert (config["model_format"], config["model_family"], config["file_type"]) == ("gguf", "llama", "Q8_0")
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in json.loads(data)["layers"]]
    assert seen[-1][0] == seen[-1][1] > model.size


def test_nothing_is_sent_twice(filled: Store, settings: Settings, registry: str, state: RegistryState) -> None:
    target = oci.Target.parse(f"oci://{registry}/desk")
    oci.push(filled, name("desk"), target, settings)
    state.asked.clear()
    oci.push(filled, name("desk"), target, settings)
    assert [asked for asked in state.asked if not asked.startswith("HEAD")] == ["PUT /v2/desk/manifests/latest"]


def test_passing_failures_are_tried_again(registry: str, state: RegistryState, settings: Settings) -> None:
    digest = Digest.of_bytes(b"x")
    state.fail = [503, 429, 500]
    with Registry(registry, "m", Outbound(settings), patience=0.01) as place:
        assert place.send(digest, 1, b"x")
        assert not place.send(digest, 1, b"x")
        state.fail = [503] * 9
        with pytest.raises(WorkerFailed, match="503 to HEAD"):
            place.send(Digest.of_bytes(b"y"), 1, b"y")
        state.fail = [400]
        with pytest.raises(WorkerFailed, match="400"):
            place.send(Digest.of_bytes(b"y"), 1, b"y")
        state.fail = []
        bad = json.dumps({"config": {"digest": str(digest), "size": 9}, "layers": []}).encode()
        with pytest.raises(WorkerFailed, match="blob unknown"):
            place.tag("v", bad, oci.MANIFEST)


def test_a_login(filled: Store, settings: Settings, registry: str, state: RegistryState, tmp_path: Path) -> None:
    state.login = "me:secret"
    target = oci.Target.parse(f"oci://{registry}/desk")
    with pytest.raises(Forbidden, match="answered 401"):
        oci.push(filled, name("desk"), target, settings)
    log_in(tmp_path, registry, "me:secret")
    oci.push(filled, name("desk"), target, settings)
    assert "latest" in state.manifests


def test_a_token_is_refreshed(
    filled: Store, settings: Settings, registry: str, state: RegistryState, tmp_path: Path
) -> None:
    state.login, state.refresh = "nobody:knows", "long-lived"
    (tmp_path / "docker").mkdir()
    kept = {"auths": {registry: {"identitytoken": "long-lived"}}}
    (tmp_path / "docker" / "config.json").write_text(json.dumps(kept))
    oci.push(filled, name("desk"), oci.Target.parse(f"oci://{registry}/desk"), settings)
    assert "latest" in state.manifests
    state.refresh = "another"
    with pytest.raises(Forbidden, match="answered 401"):
        oci.push(filled, name("desk"), oci.Target.parse(f"oci://{registry}/desk:v2"), settings)


def test_a_password_goes_to_no_other_host(
    filled: Store, settings: Settings, registry: str, state: RegistryState, tmp_path: Path
) -> None:
    thief = RegistryState()
    state.login = thief.login = "me:secret"
    log_in(tmp_path, registry, "me:secret")
    with serving(RegistryPlace, thief) as elsewhere:
        state.realm = f"http://{elsewhere}/token"
        with pytest.raises(Forbidden):
            oci.push(filled, name("desk"), oci.Target.parse(f"oci://{registry}/desk"), settings)
    assert thief.seen_passwords == [""]
    state.realm = "http://registry.example/token"
    with pytest.raises(Forbidden, match="a kind that is not known"):
        oci.push(filled, name("desk"), oci.Target.parse(f"oci://{registry}/desk"), settings)


def test_the_model_goes_nowhere_without_encryption(
    filled: Store, settings: Settings, registry: str, state: RegistryState
) -> None:
    state.location = "http://upload.example/x"
    with pytest.raises(Forbidden, match="without encryption"):
        oci.push(filled, name("desk"), oci.Target.parse(f"oci://{registry}/desk"), settings)


def test_what_is_not_pushed(filled: Store, settings: Settings, store: Store, tmp_path: Path) -> None:
    import_folder(store, folder(tmp_path / "m"), name("folder"))
    with pytest.raises(Unsupported, match="GGUF"):
        oci.push(store, name("folder"), oci.Target("127.0.0.1:9", "m", "v"), settings)
    nowhere = Registry("127.0.0.1:9", "m", Outbound(settings), patience=0)
    with pytest.raises(WorkerFailed, match="cannot be reached"), nowhere as place:
        place.send(Digest.of_bytes(b""), 0, b"")
    offline = Settings(home=tmp_path, offline=True)
    with pytest.raises(Forbidden, match="offline"):
        oci.push(store, name("desk"), oci.Target("127.0.0.1:9", "m", "v"), offline)
    with pytest.raises(Forbidden, match="offline"):
        hub.push(store, name("desk"), "org/m", offline, card="")


@pytest.mark.parametrize(
    "text",
    ["oci://", "oci://h", "oci://h/UP", "oci://h/../x", "oci://h/a b", "oci://h/a:", "oci://u:p@h/a", "oci://h/a?x=1"],
)
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(BadName):
        oci.Target.parse(text)


def test_targets() -> None:
    assert oci.Target.parse("oci://r.example:5000/a/b-c:v1.2") == ("r.example:5000", "a/b-c", "v1.2")
    assert oci.Target.parse("oci://r.example/a") == ("r.example", "a", "latest")
    assert is_loopback("localhost:1")
    assert is_loopback("[::1]:5")
    assert not is_loopback("localhost.example")


@pytest.fixture
def hub_state(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[HubState]:
    state = HubState()
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    with serving(HubPlace, state) as host:
        monkeypatch.setenv("HF_ENDPOINT", f"http://{host}")
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        yield state


# huggingface_hub hands its file to httpx2 in a way that httpx2 calls outdated.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_the_hubs_own_client_sends_model_card_and_proofs(
    filled: Store, settings: Settings, hub_state: HubState
) -> None:
    text = card.of(filled, name("desk"))
    done = hub.push(filled, name("desk"), "org/repo", settings, card=text, private=True)
    assert done.commit == "abc"
    assert hub_state.created[0]["visibility"] == "private"
    manifest = filled.get(name("desk"))
    for part in manifest.parts:
        assert hub_state.files[part.filename] == filled.path(part.digest).read_bytes()
    assert hub_state.files["README.md"].decode() == text
    assert hub_state.files["freehold-manifest.json"] == manifest.encode()
    assert hub_state.files["model.sig"] == b"signature"
    assert b"token_f1" in hub_state.files[f"proofs/{manifest.evidence[0].hex[:16]}.json"]
    assert not list(filled.folder.glob("push-*"))


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_how_vectors_are_pooled_is_sent_to_where_it_is_looked_for(
    store: Store, settings: Settings, hub_state: HubState, tmp_path: Path
) -> None:
    source = folder(tmp_path / "model")
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling" / "config.json").write_text('{"pooling_mode_lasttoken": true}')
    import_folder(store, source, name("vectors"))
    hub.push(store, name("vectors"), "org/repo", settings, card="A card.")
    sent = hub_state.files["1_Pooling/config.json"]
    assert sent == hub_state.files["1_Pooling.json"] == b'{"pooling_mode_lasttoken": true}'


@pytest.mark.parametrize(
    ("status", "error"), [(401, Forbidden), (403, Forbidden), (404, NotFound), (400, WorkerFailed)]
)
def test_refusals_of_the_hub(
    filled: Store, settings: Settings, hub_state: HubState, status: int, error: type[Exception]
) -> None:
    hub_state.refuse = status
    with pytest.raises(error):
        hub.push(filled, name("desk"), "org/repo", settings, card="")
    assert not list(filled.folder.glob("push-*"))


@pytest.mark.parametrize("text", ["hf.co/org/repo", "hf://org/repo", "https://huggingface.co/org/repo", "org/repo"])
def test_repositories(text: str) -> None:
    assert hub.repo_of(text) == "org/repo"


@pytest.mark.parametrize("text", ["repo", "hf.co/repo", "hf.co/org/repo:tag", "hf.co/a/b/c", "http://evil/org/repo"])
def test_what_is_no_repository(text: str) -> None:
    with pytest.raises(BadName):
        hub.repo_of(text)


def test_the_card_is_made_of_facts(filled: Store) -> None:
    text = card.of(filled, name("desk"))
    assert text.startswith('---\ntags: ["freehold", "gguf"]\nlibrary_name: "gguf"\nlicense: "mit"\n---\n')
    assert "| token_f1 | 0.5 | verified |" in text
    assert "| base | sha256:" in text
    assert "unknown" not in text.split("## About")[0].replace("Unknown", "")


def test_a_card_cannot_be_written_into(store: Store, tmp_path: Path) -> None:
    fact = {"subject": "x", "name": "a|b\n# Title <script>", "value": "[x](http://evil)", "grade": "declared"}
    proof = store.add_bytes(json.dumps({"facts": [fact, {"name": "half"}]}).encode())
    import_gguf(store, gguf(tmp_path / "m.gguf"), name("m"), evidence=[proof, store.add_bytes(b"\xff")])
    text = card.of(store, name("m"))
    assert "| a\\|b # Title \\<script\\> | \\[x\\](http://evil) | declared | x |" in text


def test_a_damaged_model_is_not_pushed(filled: Store, settings: Settings, registry: str) -> None:
    part = filled.get(name("desk")).part("gguf")
    assert part is not None
    blob = filled.path(part.digest)
    blob.chmod(0o644)
    blob.write_bytes(b"x" * blob.stat().st_size)
    with pytest.raises(Damaged):
        oci.push(filled, name("desk"), oci.Target.parse(f"oci://{registry}/desk"), settings)


def sent(host: str, settings: Settings, data: bytes = b"x") -> bool:
    with Registry(host, "m", Outbound(settings), patience=0) as place:
        return place.send(Digest.of_bytes(data), len(data), data)


@pytest.mark.parametrize(
    ("location", "error", "said"),
    [
        ("http://[::1", WorkerFailed, "names a place that is none"),
        ("//[x]/", WorkerFailed, "names a place that is none"),
        ("http://upload.example/", Forbidden, "without encryption"),
        ("//upload.example/x", Forbidden, "without encryption"),
        ("http://127.0.0.1.example/x", Forbidden, "without encryption"),
        ("http://localhost@upload.example/x", Forbidden, "without encryption"),
        ("ftp://127.0.0.1/x", WorkerFailed, "cannot be reached"),
        ("file:///etc/passwd", WorkerFailed, "cannot be reached"),
        ("http://127.0.0.1:1/x", WorkerFailed, "cannot be reached"),
        ("/nowhere", WorkerFailed, "answered 404"),
        ("?x", WorkerFailed, "answered 404"),
        ("/v2/m/blobs/uploads/1?digest=sha256:0", WorkerFailed, "digest invalid"),
        ("\x1b[2J", WorkerFailed, "answered 404|cannot be reached"),
    ],
)
def test_places_for_a_blob_that_are_none(
    registry: str, state: RegistryState, settings: Settings, location: str, error: type[FreeholdError], said: str
) -> None:
    state.location = location
    with pytest.raises(error, match=said) as caught:
        sent(registry, settings)
    assert caught.value.line().isprintable()
    assert caught.value.remedy
    assert state.blobs == {}


@pytest.mark.parametrize("location", ["/v2/m/blobs/uploads/1", "http://{}/v2/m/blobs/uploads/1?a=b", "blobs/uploads/1"])
def test_places_for_a_blob_may_be_relative(
    registry: str, state: RegistryState, settings: Settings, location: str
) -> None:
    state.location = location.format(registry)
    assert sent(registry, settings)
    assert list(state.blobs.values()) == [b"x"]


@pytest.mark.parametrize(
    "realm", ["x", "http://[::1", "HTTPS://[::1", "http://[x]/", "http://registry.example/t", "ftp://h/", "//h/t"]
)
def test_a_login_of_a_kind_that_is_not_known(
    registry: str, state: RegistryState, settings: Settings, realm: str
) -> None:
    state.login, state.realm = "me:secret", realm
    with pytest.raises(Forbidden, match="a kind that is not known"):
        sent(registry, settings)


@pytest.mark.parametrize(
    ("token", "error"),
    [
        (b"", WorkerFailed),
        (b"[]", WorkerFailed),
        (b'{"token":"\xff"}', WorkerFailed),
        (b'{"token":5}', WorkerFailed),
        (b'{"token":null}', WorkerFailed),
        (b"[" * 100_000, WorkerFailed),
        (b'{"token":' + b"[" * 100_000, WorkerFailed),
        (b"{}", Forbidden),
        (b'{"token":""}', Forbidden),
        (b'{"token":"a b"}', Forbidden),
        (b'{"token":"a\\r\\nX-Evil: 1"}', Forbidden),
        (b'{"token":"\xc3\xa9"}', Forbidden),
        (b'{"token":"' + b"x" * 65_537 + b'"}', Forbidden),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_token_that_is_none(
    registry: str, state: RegistryState, settings: Settings, token: bytes, error: type[FreeholdError]
) -> None:
    state.login, state.token = "me:secret", token
    with pytest.raises(error, match="gives no token") as caught:
        sent(registry, settings)
    assert caught.value.line().isprintable()
    assert state.blobs == {}


@pytest.mark.parametrize("token", [b'{"token":"good"}', b'{"access_token":"good"}', b'{"token":"good","more":[1,{}]}'])
def test_a_token_under_either_name(registry: str, state: RegistryState, settings: Settings, token: bytes) -> None:
    state.login, state.token = "me:secret", token
    assert sent(registry, settings)


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (b'{"errors":[{"message":"too large"}]}', ": too large"),
        (b'{"errors":[{"message":"' + b"x" * 5000 + b'"}]}', "xxx…"),
        (b'{"errors":[{"message":"\\u001b[2J\\n"}]}', r": \x1b[2J\n"),
        (b'{"errors":[]}', "HEAD|POST"),
        (b'{"errors":{}}', ""),
        (b'{"errors":[[]]}', ""),
        (b"[]", ""),
        (b"5", ""),
        (b"\xff", ""),
        (b'{"errors":' + b"[" * 60_000, ""),
        (b"<html>", ""),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_a_registry_says_of_a_failure(
    registry: str, state: RegistryState, settings: Settings, refusal: bytes, said: str
) -> None:
    """Its own words where they can be read, on one short line."""
    state.refusal = refusal
    with Registry(registry, "m", Outbound(settings), patience=0) as place:
        with pytest.raises(WorkerFailed, match="answered 400 to PUT") as caught:
            place.tag("v", b"{}", oci.MANIFEST)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 300
    assert any(each in caught.value.message for each in said.split("|")) or not said.startswith((":", "x"))


@pytest.mark.parametrize(
    ("place", "here"),
    [("localhost", True), ("localhost:5000", True), ("127.0.0.1", True), ("127.9.9.9:1", True), ("[::1]", True),
     ("LOCALHOST:1", True), ("", False), ("0.0.0.0", False), ("10.0.0.1", False), ("localhost.example", False),
     ("127.0.0.1.example", False), ("[::2]", False), ("[::1", False), ("[x]", False), ("a@127.0.0.1", True),
     ("127.0.0.1@evil.example", False), ("2130706433", False), ("0x7f.1", False)],
)  # fmt: skip
def test_which_hosts_are_this_machine(place: str, here: bool) -> None:
    assert is_loopback(place) is here


@pytest.mark.parametrize("text", ["oci://h:123456/a", "oci://[::1/a", "oci://[::1]/A", "oci://h/" + "a" * 256, "h/a"])
def test_what_else_is_no_target(text: str) -> None:
    with pytest.raises(BadName, match="not a place in a registry"):
        oci.Target.parse(text)


@given(st.text(max_size=60))
def test_any_text_is_a_target_or_refused_on_one_line(text: str) -> None:
    for given_text in (text, f"oci://{text}", f"oci://h/{text}"):
        try:
            found = oci.Target.parse(given_text)
        except BadName as error:
            assert error.line().isprintable()  # noqa: PT017
        else:
            assert found == oci.Target.parse(f"oci://{found.host}/{found.repo}:{found.tag}")
