"""SentencePiece models trained on the spot, and the tokenizer.json that transformers would make of each."""

import io
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.convert.folders import TORTURE, change_json, write_folder, write_json

CONTROLS = ("<|user|>", "<|end|>", "<|endoftext|>")
RUNS = tuple("▁" * n for n in range(2, 9)) + tuple("\n" * n for n in range(2, 5))
TEXT = TORTURE + "     five   three\n\n\n\nfour      \t\ttabs 䨺 🧿 end"
FILE, LIST = "tokenizer.model", "tokenizer.json"


@lru_cache
def trained(gemma: bool) -> bytes:
    """A byte-pair model with byte fallback, as Llama 2's (a space before every text) or Gemma's (none, and runs)."""
    import sentencepiece

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.replace("\n", " ").split("  ") * 2),
        model_writer=out,
        model_type="bpe",
        vocab_size=900,
        byte_fallback=True,
        character_coverage=0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=not gemma,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        user_defined_symbols=[*RUNS, *CONTROLS] if gemma else [],
        control_symbols=[] if gemma else list(CONTROLS),
        minloglevel=2,
    )
    return out.getvalue()


def processor(gemma: bool) -> Any:
    """SentencePiece itself."""
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_proto=trained(gemma))


def tokenizer_json(gemma: bool, rstrip: bool = False) -> dict[str, Any]:
    """What transformers' converters make: merges from scores, spaces marked by a normalizer, added tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers.convert_slow_tokenizer import generate_merges

    model = processor(gemma)
    pieces = [(model.id_to_piece(i), model.get_score(i)) for i in range(model.get_piece_size())]
    vocab = {piece: i for i, (piece, _) in enumerate(pieces)}
    bpe = models.BPE(vocab, generate_merges(vocab, pieces), unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    made = Tokenizer(bpe)
    mark = normalizers.Replace(" ", "▁")
    made.normalizer = mark if gemma else normalizers.Sequence([normalizers.Prepend("▁"), mark])
    if gemma:
        made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    described = json.loads(made.to_str())
    described["added_tokens"] = [
        _added(vocab[text], text, rstrip=rstrip and text not in ("<unk>", "<s>", "<|endoftext|>"))
        for text in ("<unk>", "<s>", "</s>", *CONTROLS)
    ] + [_added(vocab[text], text, special=False) for text in RUNS if gemma]
    return described


def _added(id_: int, text: str, *, special: bool = True, rstrip: bool = False) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": rstrip, "normalized": False, "special": special}
    return {"id": id_, "content": text, **flags}


def write(folder: Path, described: dict[str, Any] | None, gemma: bool) -> None:
    """Put tokenizer.json, or tokenizer.model where that is None, in the place of a folder's tokenizer."""
    (folder / LIST).unlink()
    write_json(folder / "tokenizer_config.json", {"bos_token": "<s>", "eos_token": "</s>"})
    (folder / "generation_config.json").unlink()
    if described is None:
        (folder / FILE).write_bytes(trained(gemma))
    else:
        write_json(folder / LIST, described)


def minicpm(folder: Path) -> Path:
    """A model of a family that only llama.cpp's own converter knows."""
    write_folder(folder)
    write(folder, None, gemma=False)
    more = {"scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 32}
    change_json(folder / "config.json", architectures=["MiniCPMForCausalLM"], model_type="minicpm", **more)
    return folder
