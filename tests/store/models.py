"""Small models on the disk, whole as far as the store can tell."""

import json
import random
from pathlib import Path
from typing import Any

from freehold.core.manifest import Manifest, Part
from freehold.core.name import Name
from freehold.store import Store
from freehold.store.check import fsck
from tests.formats.ggufs import Raw

CONFIG = {"model_type": "llama", "max_position_embeddings": 256, "hidden_size": 64, "vocab_size": 8}


def name(text: str) -> Name:
    return Name.parse(text)


def gguf(path: Path, seed: int = 0, size: int = 1 << 16, **keys: int | str) -> Path:
    """A GGUF file with one tensor of `size` bytes."""
    raw = Raw().start(1, 3 + len(keys)).text_key("general.architecture", "llama")
    raw.number_key("llama.context_length", 128).text_key("general.license", "apache-2.0")
    for key, value in keys.items():
        key = key.replace("__", ".")
        raw.text_key(key, value) if isinstance(value, str) else raw.number_key(key, value)
    raw.tensor("token_embd.weight", (32, size // 34), 8, 0).write(path)
    with path.open("ab") as file:
        file.write(random.Random(seed).randbytes(size // 34 * 34))
    return path


def projector(path: Path, seed: int = 0, kind: str = "mlp", sees: bool = True) -> Path:
    """A GGUF file with which llama.cpp's models see images, as far as its header tells."""
    raw = Raw().start(1, 8).text_key("general.architecture", "clip").text_key("general.type", "mmproj")
    raw.number_key("clip.has_vision_encoder" if sees else "clip.has_audio_encoder", 1, 7, "B")
    raw.text_key("clip.projector_type", kind)
    for key, value in (("image_size", 28), ("patch_size", 14), ("embedding_length", 32), ("feed_forward_length", 64)):
        raw.number_key(f"clip.vision.{key}", value)
    raw.tensor("v.patch_embd.weight", (32, 4), 8, 0).write(path)
    with path.open("ab") as file:
        file.write(random.Random(seed).randbytes(136))
    return path


def safetensors(path: Path, names: tuple[str, ...] = ("a", "b"), seed: int = 0, weights: int = 64) -> Path:
    size = weights * 2
    header = {
        n: {"dtype": "BF16", "shape": [weights], "data_offsets": [i * size, i * size + size]}
        for i, n in enumerate(names)
    }
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + random.Random(seed).randbytes(size * len(names)))
    return path


def folder(path: Path, seed: int = 0, weights: int = 64) -> Path:
    """A folder as transformers writes it."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(CONFIG))
    (path / "generation_config.json").write_text("{}")
    (path / "tokenizer.json").write_text('{"model": {"type": "BPE"}}')
    (path / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    (path / "chat_template.jinja").write_text("{{ messages[0].content }}")
    safetensors(path / "model.safetensors", seed=seed, weights=weights)
    return path


def sharded(path: Path) -> Path:
    """The same in two parts with an index."""
    folder(path)
    (path / "model.safetensors").unlink()
    safetensors(path / "model-00001-of-00002.safetensors", ("a", "b"))
    safetensors(path / "model-00002-of-00002.safetensors", ("c",), seed=1)
    parts = {"a": 1, "b": 1, "c": 2}
    index = {"weight_map": {tensor: f"model-0000{part}-of-00002.safetensors" for tensor, part in parts.items()}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    return path


def adapter(path: Path) -> Path:
    path.mkdir()
    (path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 8}')
    safetensors(path / "adapter_model.safetensors", ("base_model.lora_A.weight",))
    (path / "README.md").write_text("An adapter")
    return path


def bytes_of(store: Store, manifest: Manifest) -> dict[str, bytes]:
    """The content of every part, by file name."""
    return {part.filename: store.path(part.digest).read_bytes() for part in manifest.parts}


def kept(store: Store, pieces: list[bytes], **more: Any) -> Manifest:
    """A manifest of parts with these contents, which the store has now."""
    parts = tuple(Part("other", store.add_bytes(data), len(data), f"part{i}") for i, data in enumerate(pieces))
    return Manifest(parts=parts, **more)


def assert_whole(store: Store) -> None:
    """Every model listed is there to the last byte, and fsck says so too."""
    assert fsck(store, deep=True) == []
    for entry in store.list():
        assert entry.manifest.digest == entry.digest
        for part in entry.manifest.parts:
            assert store.path(part.digest).stat().st_size == part.size
            store.verify(part.digest)


def leftovers(store: Store) -> list[Path]:
    """Unfinished files."""
    return list(store.blobs.incoming.iterdir())


def blob_count(store: Store) -> int:
    return sum(1 for _ in store.blobs.files())


def split_model(path: Path, count: int = 3, **wrong: int) -> list[Path]:
    """A model in parts, as llama-gguf-split writes it: only the first says what it is."""
    path.mkdir(exist_ok=True)
    files = []
    for number in range(count):
        raw = Raw().start(1, 6 if number == 0 else 3)
        if number == 0:
            raw.text_key("general.architecture", "llama").number_key("llama.context_length", 128)
            raw.text_key("general.license", "mit")
        raw.number_key("split.no", wrong.get("no", number), 2, "H").number_key("split.count", count, 2, "H")
        raw.number_key("split.tensors.count", wrong.get("tensors", count), 5, "i")
        raw.tensor(f"blk.{number}.attn_q.weight", (32, 2), 8, 0)
        files.append(raw.write(path / f"big-Q8_0-{number + 1:05d}-of-{count:05d}.gguf", 68 + number))
    return files
