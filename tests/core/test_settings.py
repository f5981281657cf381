"""Settings: flags over environment over file over defaults, and every wrong value is named."""

from pathlib import Path

import msgspec
import pytest

from freehold.core.errors import BadInput
from freehold.core.settings import FIXED, Settings, load


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def config(folder: Path, text: str) -> None:
    (folder / "config.toml").write_text(text)


def test_defaults(folder: Path) -> None:
    settings = load({"home": folder}, {})
    assert settings == Settings(home=folder)
    assert settings.host == "127.0.0.1"
    assert not settings.offline


def test_a_file_that_notepad_saved(folder: Path) -> None:
    (folder / "config.toml").write_bytes(b"\xef\xbb\xbfport = 5000\r\n")
    assert load({"home": folder}, {}).port == 5000


def test_home_is_found_in_this_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load({}, {}).home == tmp_path / ".freehold"
    assert load({}, {"FREEHOLD_HOME": "/srv/models"}).home == Path("/srv/models")
    assert load({"home": "/flag"}, {"FREEHOLD_HOME": "/srv/models"}).home == Path("/flag")
    assert load({}, {"FREEHOLD_HOME": ""}).home == tmp_path / ".freehold"
    assert load({}, {"FREEHOLD_HOME": "~/x"}).home == tmp_path / "x"


def test_a_relative_home_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load({"home": "here"}, {}).home == tmp_path / "here"


def test_precedence(folder: Path) -> None:
    environ = {"FREEHOLD_HOME": str(folder)}
    assert load({}, environ).port == 6464
    config(folder, "port = 1001")
    assert load({}, environ).port == 1001
    environ["FREEHOLD_PORT"] = "1002"
    assert load({}, environ).port == 1002
    assert load({"port": 1003}, environ).port == 1003
    assert load({"port": None}, environ).port == 1002


def test_every_field_can_be_set_in_the_environment(folder: Path) -> None:
    values = {
        "HOST": "::1",
        "PORT": "0",
        "OFFLINE": "yes",
        "ALLOWED_HOSTS": "a.example, b.example,",
        "CONTEXT_LENGTH": "512",
        "ALSO": "ollama, llamacpp",
        "PARALLEL": "2",
        "QUEUE": "3",
        "QUEUE_TOKENS": "4",
        "QUEUE_SHARE": "0.25",
        "QUEUE_SECONDS": "30",
        "MEMORY": "123456",
        "PINNED": "helpdesk, other:tag",
        "STALL_SECONDS": "5",
        "DRAIN_SECONDS": "0",
        "GRAMMAR_SECONDS": "0.5",
        "KEEP_ALIVE": "1.5",
        "THREADS": "1",
        "MAX_BODY": "2048",
        "REQUIRE_SIGNATURE": "1",
        "SIGNING_KEY": "me",
        "QUOTA": "4096",
        "FILES_QUOTA": "8192",
        "KEPT_ANSWERS": "8192",
        "SCRUB_RATE": "0",
    }
    fields = {field.name.upper() for field in msgspec.structs.fields(Settings)} - {"HOME"}
    assert set(values) == fields, "a new setting needs a value here"
    settings = load({"home": folder}, {f"FREEHOLD_{name}": value for name, value in values.items()})
    assert settings == Settings(
        home=folder,
        host="::1",
        port=0,
        offline=True,
        allowed_hosts=("a.example", "b.example"),
        also=("ollama", "llamacpp"),
        context_length=512,
        parallel=2,
        queue=3,
        queue_tokens=4,
        queue_share=0.25,
        queue_seconds=30.0,
        memory=123456,
        pinned=("helpdesk", "other:tag"),
        stall_seconds=5.0,
        drain_seconds=0.0,
        grammar_seconds=0.5,
        keep_alive=1.5,
        threads=1,
        max_body=2048,
        require_signature=True,
        signing_key="me",
        quota=4096,
        files_quota=8192,
        kept_answers=8192,
        scrub_rate=0,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "http"),
        ("PORT", "80.5"),
        ("OFFLINE", "maybe"),
        ("HOST", ""),
        ("HOST", "h" * 254),
        ("CONTEXT_LENGTH", "0"),
        ("CONTEXT_LENGTH", "999999999999"),
        ("PARALLEL", "0"),
        ("KEEP_ALIVE", "-1"),
        ("KEEP_ALIVE", "soon"),
        ("KEEP_ALIVE", "inf"),
        ("MAX_BODY", "1"),
        ("QUEUE_SHARE", "0"),
        ("QUEUE_SHARE", "1.5"),
        ("QUEUE_SECONDS", "0"),
        ("STALL_SECONDS", "nan"),
        ("DRAIN_SECONDS", "inf"),
    ],
)
def test_a_wrong_value_is_named(folder: Path, name: str, value: str) -> None:
    with pytest.raises(BadInput) as caught:
        load({"home": folder}, {f"FREEHOLD_{name}": value})
    assert name.lower() in caught.value.line().lower()
    assert caught.value.remedy


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
def test_true_words(folder: Path, value: str) -> None:
    assert load({"home": folder}, {"FREEHOLD_OFFLINE": value}).offline


@pytest.mark.parametrize("value", ["0", "false", "No", "off", ""])
def test_false_words(folder: Path, value: str) -> None:
    assert not load({"home": folder}, {"FREEHOLD_OFFLINE": value}).offline


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 80", "'prot'"),
        ("port = ", "config.toml"),
        ("port = 'x'", "port"),
        ("[port]\nx = 1", "port"),
        ("home = 7\nbogus = 1", "'bogus'"),
    ],
)
def test_a_wrong_file_is_named(folder: Path, text: str, said: str) -> None:
    config(folder, text)
    with pytest.raises(BadInput) as caught:
        load({"home": folder}, {})
    assert said in caught.value.line()
    assert caught.value.remedy


def test_a_file_that_is_not_text(folder: Path) -> None:
    (folder / "config.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match=r"config\.toml"):
        load({"home": folder}, {})


def test_a_config_that_is_a_folder(folder: Path) -> None:
    (folder / "config.toml").mkdir()
    with pytest.raises(BadInput, match=r"config\.toml"):
        load({"home": folder}, {})


def test_the_file_cannot_move_home(folder: Path) -> None:
    config(folder, "home = '/elsewhere'")
    assert load({"home": folder}, {}).home == folder


def test_folders_lie_under_home(folder: Path) -> None:
    settings = Settings(home=folder)
    assert {settings.store.parent, settings.runs.parent, settings.sockets.parent} == {folder}


def test_what_is_fixed_is_a_setting():
    assert set(Settings.__struct_fields__) > FIXED
