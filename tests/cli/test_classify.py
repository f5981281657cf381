"""`freehold classify`: labels of texts, by a model that transformers wrote."""

import json
from pathlib import Path

import pytest
import torch

from freehold.core.name import Name
from freehold.core.settings import load
from freehold.store import Store
from freehold.store.importing import import_folder, import_gguf
from tests.cli.conftest import Freehold, assert_refused
from tests.tiny import tokenizer, write_gguf

TEXTS = ["Where is my order?", "Please help me", "Paris"]


@pytest.fixture
def scores(home: Path, tmp_path: Path) -> list[list[float]]:
    """A classifier with random weights is in the store; what transformers makes of each text."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    bpe = tokenizer()
    torch.manual_seed(1)
    network = LlamaForSequenceClassification(
        LlamaConfig(
            vocab_size=bpe.get_vocab_size(), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1, pad_token_id=0, id2label={0: "late", 1: "lost", 2: "other"},
            max_position_embeddings=64, initializer_range=0.5,
        )
    ).eval()  # fmt: skip
    network.save_pretrained(tmp_path / "labels")
    bpe.save(str(tmp_path / "labels" / "tokenizer.json"))
    with Store.open(load({}).store) as store:
        import_folder(store, tmp_path / "labels", Name.parse("labels"))
        import_gguf(store, write_gguf(tmp_path / "tiny.gguf"), Name.parse("tiny"))
    with torch.no_grad():
        return [network(input_ids=torch.tensor([bpe.encode(t).ids])).logits[0].softmax(-1).tolist() for t in TEXTS]


def test_each_text_gets_its_labels(inside: Freehold, scores: list[list[float]], tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text(f"{TEXTS[1]}\n\n{TEXTS[2]}\n", "utf-8-sig")  # as Notepad saves it
    done = inside("classify", "labels", TEXTS[0], "--file", "more.txt", "--json")
    assert done.returncode == 0
    told = json.loads(done.stdout)
    assert [each["text"] for each in told] == TEXTS
    for each, wanted in zip(told, scores, strict=True):
        found = {guess["label"]: guess["probability"] for guess in each["labels"]}
        assert [found[label] for label in ("late", "lost", "other")] == pytest.approx(wanted, abs=1e-5)
        assert each["labels"][0]["probability"] == pytest.approx(max(wanted), abs=1e-5)
    plain = inside("classify", "labels", *TEXTS).stdout.splitlines()
    assert [line.split()[0] for line in plain] == [each["labels"][0]["label"] for each in told]


@pytest.mark.usefixtures("scores")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("labels",), "no text to label"),
        (("labels", ""), "has no tokens"),
        (("labels", "--file", "none.txt"), "none.txt"),
        (("tiny", "a text"), "tiny is no classifier"),
        (("nobody", "a text"), "nobody"),
    ],
)
def test_what_cannot_be_labelled_is_refused(inside: Freehold, arguments: tuple[str, ...], said: str) -> None:
    assert_refused(inside("classify", *arguments), said)
