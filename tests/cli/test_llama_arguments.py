"""llama-server's command line as Freehold reads it."""

import sys
from pathlib import Path

import pytest

from freehold.cli import _llama_server
from freehold.cli._llama_arguments import ARGUMENTS, parse
from freehold.core.errors import BadInput, BadModelFile, NotFound, UnknownModel, Unsupported
from freehold.core.request import FOREVER
from freehold.core.settings import load
from freehold.store import Store
from tests.tiny import write_gguf


def test_common_arguments():
    line = (
        "-m a.gguf --host 127.0.0.1 --port 9000 -c 2048 -np 2 -ngl 99 -t 4 -b 256 -ub 64 -a x,y --embedding "
        "--pooling mean --rerank --metrics --no-slots --slot-save-path s --lora l1,l2 --lora l3 --api-key k --jinja "
        "--chat-template chatml --reasoning-format deepseek-legacy --seed 42 --temp 0.5 -n 16 -fa on -ctk q8_0"
    )
    own, params, sampling, notes = parse(line.split(), {})
    assert own["model"] == "a.gguf"
    assert (own["host"], own["port"], own["parallel"], own["threads"]) == ("127.0.0.1", 9000, 2, 4)
    assert (own["embedding"], own["reranking"], own["metrics"], own["slots"]) == (True, True, True, False)
    assert own["lora"] == ["l1", "l2", "l3"]
    assert own["api_key"] == ["k"]
    assert params == {
        "n_ctx": 2048, "n_gpu_layers": 99, "n_batch": 256, "n_ubatch": 64, "pooling_type": "mean", "use_jinja": True,
        "reasoning_format": "deepseek_legacy", "n_predict": 16, "flash_attn_type": "enabled", "cache_type_k": "q8_0",
    }  # fmt: skip
    assert sampling == {"seed": 42, "temp": 0.5}
    assert not notes


def test_underscores_and_other_spellings():
    assert parse(["--ctx_size", "64", "--embeddings"], {}).params["n_ctx"] == 64
    assert parse(["--seed", "-1"], {}).sampling["seed"] == 0xFFFFFFFF
    assert parse(["-ngl", "all"], {}).params["n_gpu_layers"] == 999
    assert parse(["--reasoning", "off"], {}).params["enable_reasoning"] == 0


def test_variables_and_what_goes_before_them():
    variables = {"LLAMA_ARG_CTX_SIZE": "128", "LLAMA_ARG_ENDPOINT_METRICS": "1", "LLAMA_API_KEY": "k",
                 "LLAMA_ARG_ENDPOINT_SLOTS": "off"}  # fmt: skip
    own, params, _, _ = parse([], variables)
    assert params == {"n_ctx": 128}
    assert own == {"metrics": True, "api_key": ["k"], "slots": False}
    assert parse(["-c", "64"], variables).params == {"n_ctx": 64}


@pytest.mark.parametrize("line", ["-c", "-c x", "-c -5", "-np 65", "--temp hot", "--no-such", "-fa maybe", "-ngl lots",
                                  "--pooling most", "--seed x", "--top-p 2", "-ngl --5", "-ngl 1-", "-ngl ²",
                                  "-ngl 9999999",
                                  "--seed --5", "--seed 1-2", "--seed 1.5", f"--seed {'9' * 5000}", "-c nan",
                                  "--temp nan", "--temp inf"])  # fmt: skip
def test_wrong_arguments(line: str):
    with pytest.raises(BadInput):
        parse(line.split(), {})


def test_wrong_variables():
    with pytest.raises(BadInput):
        parse([], {"LLAMA_ARG_JINJA": "perhaps"})


@pytest.mark.parametrize(
    "line",
    ["--mmproj-url f", "--media-path f", "--model-draft f", "--tools all", "--ssl-key-file f", "--grammar x"],
)
def test_what_cannot_be_honoured_is_refused(line: str):
    with pytest.raises(Unsupported, match=line.split()[0]):
        parse(line.split(), {})


def test_what_changes_nothing_is_said():
    assert len(parse(["--no-webui", "--mlock", "-tb", "4"], {}).notes) == 3


def test_no_name_is_given_twice():
    names = [name for argument in ARGUMENTS for name in f"{argument.names} {argument.off}".split()]
    assert len(names) == len(set(names))


def test_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FREEHOLD_HOME", str(tmp_path))
    made = _llama_server._settings(
        parse(["-m", "x", "--host", "127.0.0.1,::1", "--sleep-idle-seconds", "3", "-c", "512", "-np", "2"], {})
    )
    assert (made.host, made.port, made.parallel, made.keep_alive) == ("127.0.0.1", 8080, 2, 3.0)
    assert made.context_length == 4096
    several = _llama_server._settings(parse(["-c", "512", "-np", "2"], {}))
    assert (several.context_length, several.keep_alive) == (256, FOREVER)


def test_the_one_model(tmp_path: Path):
    settings = load({"home": tmp_path})
    model = write_gguf(tmp_path / "m.gguf")
    (tmp_path / "t.jinja").write_text("{{ 1 }}", "utf-8-sig")  # as Notepad saves it
    given = parse(["-m", str(model), "-a", "b, a", "--slot-save-path", str(tmp_path), "--chat-template-file",
                   str(tmp_path / "t.jinja"), "-nkvo", "-b", "64", "--rerank"], {})  # fmt: skip
    with Store.open(settings.store) as store:
        sole = _llama_server._sole(given, settings, store)
        assert _llama_server._sole(parse([], {}), settings, store) is None
        with pytest.raises(UnknownModel):
            _llama_server._sole(parse(["-m", "nobody"], {}), settings, store)
        with pytest.raises(NotFound, match="no model file"):
            _llama_server._sole(parse(["-m", "no.gguf"], {}), settings, store)
        with pytest.raises(NotFound):
            _llama_server._sole(parse(["-m", str(model), "--lora", "no.gguf"], {}), settings, store)
        (tmp_path / "bad.gguf").write_bytes(b"GGUF")
        with pytest.raises(BadModelFile):
            _llama_server._sole(parse(["-m", str(tmp_path / "bad.gguf")], {}), settings, store)
    assert sole is not None
    assert (sole.label, sole.aliases, sole.ranking, sole.embedding) == ("a", ("a", "b"), True, True)
    file = sole.file()
    assert file.chat_template == "{{ 1 }}"
    assert file.launch is not None
    assert file.launch.parameters["n_ubatch"] == 64
    assert file.launch.parameters["no_kv_offload"] is True
    assert file.launch.parameters["slot_save_path"] == f"{tmp_path}/"


@pytest.mark.parametrize(("line", "origin", "may"), [
    ("", "http://localhost", False), ("--api-key k", "http://any.org", True),
    ("--cors-origins localhost", "http://[::1]:3000", True), ("--cors-origins localhost", "http://127.0.0.1", True),
    ("--cors-origins localhost", "http://localhost.evil.com", False), ("--cors-origins localhost", "http://[", False),
    ("--cors-origins http://a.org", "http://A.org", True), ("--cors-origins http://a.org", "http://b.org", False),
])  # fmt: skip
def test_pages(line: str, origin: str, may: bool):
    given = parse(line.split(), {})
    assert _llama_server._is_page(_llama_server._origins(given, _llama_server._keys(given)), origin) is may


def test_any_page_needs_a_key():
    given = parse(["--cors-origins", "*"], {})
    with pytest.raises(BadInput):
        _llama_server._origins(given, [])


def test_keys_from_a_file(tmp_path: Path):
    (tmp_path / "keys").write_text("one\ntwo\n")
    assert _llama_server._keys(parse(["--api-key", "k", "--api-key-file", str(tmp_path / "keys")], {})) == [
        "k", "one", "two",
    ]  # fmt: skip
    (tmp_path / "keys").write_text("  a key of words \r\n\n")
    assert _llama_server._keys(parse(["--api-key-file", str(tmp_path / "keys")], {})) == ["a key of words"]


@pytest.mark.parametrize("line", ["--api-key-file FILE", "--api-key ,", "--api-key  --api-key-file FILE"])
def test_a_server_that_was_to_ask_for_a_key_and_has_none_is_not_started(tmp_path: Path, line: str):
    (tmp_path / "keys").write_text("\n  \n")
    given = parse(line.replace("FILE", str(tmp_path / "keys")).split(" "), {})
    with pytest.raises(BadInput, match="hold no key"):
        _llama_server._keys(given)
    assert _llama_server._keys(parse([], {"LLAMA_API_KEY": ""})) == []


def refused(
    args: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int | str | None, str]:
    """The exit code and what is said on stderr."""
    monkeypatch.setattr("sys.argv", ["freehold-llama-server", *args])
    monkeypatch.setattr("sys.excepthook", sys.excepthook)
    with pytest.raises(SystemExit) as ended:
        _llama_server.main()
    shown = capsys.readouterr()
    assert shown.out == ""
    return ended.value.code, shown.err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--seed", "--5"], "--seed is '--5'"),
        (["--api-key-file", "none"], "none: No such file or directory"),
        (["--api-key-file", "."], "Is a directory"),
        (["--api-key-file", "odd"], "--api-key-file: odd is not UTF-8 (byte 3)"),
        (["-m", "m.gguf", "--chat-template-file", "odd"], "--chat-template-file: odd is not UTF-8 (byte 3)"),
        (["-m", "m.gguf", "--mmproj", "none"], "there is no projector"),
        (["-m", "m.gguf", "-a", "\udce9", "--lora", "none"], "there is no adapter"),
        (["--host", "0.0.0.0"], "no keys exist"),
        (["--host", "127.0.0.1,192.168.0.9", "--port", "0"], "no keys exist"),
    ],
)
def test_what_keeps_it_from_starting_is_one_line(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    args: list[str],
    said: str,
):
    monkeypatch.chdir(tmp_path)
    write_gguf(tmp_path / "m.gguf")
    (tmp_path / "odd").write_bytes(b"abc\xe9")
    code, error = refused(args, monkeypatch, capsys)
    assert code == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert said in error


def test_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.excepthook", sys.excepthook)
    for flag, said in (("--help", "--ctx-size"), ("--version", "freehold")):
        monkeypatch.setattr("sys.argv", ["freehold-llama-server", flag])
        with pytest.raises(SystemExit) as ended:
            _llama_server.main()
        assert ended.value.code == 0
        assert said in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["freehold-llama-server", "--tools", "all"])
    with pytest.raises(SystemExit) as ended:
        _llama_server.main()
    assert ended.value.code == 2
    assert "cannot be honoured" in capsys.readouterr().err
