"""Every family: what the decoder computes and its gradients, beside transformers' model and torch's own derivatives."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from freehold.core.errors import BadModelFile, FreeholdError, Unsupported
from freehold.tuning import lora, model
from freehold.tuning.decoder.attention import Rows
from freehold.tuning.decoder.loss import head_loss
from freehold.tuning.decoder.shape import FAMILIES, Shape
from tests.convert.torchmodels import SMALL, write_model

CPU = torch.device("cpu")
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0 + 0.1 * place for place in range(6)],
    "long_factor": [1.5 + 0.5 * place for place in range(6)],
    "original_max_position_embeddings": 24,
    "partial_rotary_factor": 0.75,
}
GEMMA: dict[str, Any] = {"head_dim": 32, "query_pre_attn_scalar": 24, "sliding_window": 8}
STRETCHED = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
CAPS = {"attn_logit_softcapping": 1.5, "final_logit_softcapping": 3.0}
WINDOWS = ["sliding_attention", "full_attention", "sliding_attention"]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama tied": ("Llama", {"tie_word_embeddings": True}),
    "llama biased": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama 3": ("Llama", {"rope_parameters": LLAMA3}),
    "llama linear": ("Llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}),
    "mistral": ("Mistral", {"sliding_window": 8, "head_dim": 16}),
    "qwen 2": ("Qwen2", {}),
    "qwen 2 yarn": ("Qwen2", {"rope_parameters": YARN}),
    "qwen 2 windows": ("Qwen2", {"use_sliding_window": True, "sliding_window": 8, "layer_types": WINDOWS}),
    "qwen 3": ("Qwen3", {"head_dim": 32}),
    "smollm 3": ("SmolLM3", {"num_hidden_layers": 4}),
    "olmo 2": ("Olmo2", {}),
    "olmo 3": ("Olmo3", {"sliding_window": 8, "layer_types": WINDOWS}),
    "olmo 3 yarn": (
        "Olmo3",
        {
            "sliding_window": 8,
            "layer_types": WINDOWS,
            "rope_parameters": {
                "full_attention": YARN,
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
    "granite": (
        "Granite",
        {
            "embedding_multiplier": 3.0,
            "attention_multiplier": 0.4,
            "residual_multiplier": 0.6,
            "logits_scaling": 2.5,
            "tie_word_embeddings": True,
        },
    ),
    "phi 3": ("Phi3", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}),
    "phi 3 windows": ("Phi3", {"sliding_window": 8, "num_key_value_heads": 4}),
    "phi 3 long": ("Phi3", {"rope_parameters": LONG, "original_max_position_embeddings": 24}),
    "phi 4 mini": (
        "Phi3",
        {
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
            "tie_word_embeddings": True,
        },
    ),
    "gemma 2": ("Gemma2", {**GEMMA, **CAPS, "tie_word_embeddings": True}),
    "gemma 2 untied, without caps": (
        "Gemma2",
        {**GEMMA, "attn_logit_softcapping": None, "final_logit_softcapping": None},
    ),
    "gemma 3": ("Gemma3Text", {**GEMMA, "num_hidden_layers": 7, "tie_word_embeddings": True}),
    "gemma 3 windows": (
        "Gemma3Text",
        {**GEMMA, "layer_types": WINDOWS, "rope_parameters": STRETCHED, "final_logit_softcapping": 3.0},
    ),
}
KINDS = {"gemma3text": "gemma3_text"}
"""Families whose classes are not called as they are."""
ROWS = [torch.randint(3, 512, (size,), generator=torch.Generator().manual_seed(size)) for size in (40, 7, 23, 1, 2)]


@pytest.fixture(params=CASES, scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family, changes = CASES[request.param]
    path = tmp_path_factory.mktemp("base")
    write_model(path, family, **changes)
    return path


def plain(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


def plain_loss(network: Any) -> torch.Tensor:
    """The sum over rows, each computed by itself."""
    losses = []
    for row in ROWS:
        logits = network(input_ids=row[None]).logits[0, :-1]
        losses.append(cross_entropy(logits, row[1:], reduction="sum"))
    return torch.stack(losses).sum()


def our_loss(decoder: model.Decoder) -> torch.Tensor:
    ids = torch.cat(ROWS)
    ends = torch.tensor([len(row) for row in ROWS]).cumsum(0) - 1
    weights = torch.ones(len(ids))
    weights[ends] = 0.0
    counted = weights.nonzero().squeeze(1)
    hidden = decoder(ids, Rows.of([len(row) for row in ROWS], CPU))
    logits = (decoder.shape.logit_scale, decoder.shape.logit_cap)
    return head_loss(hidden[counted], decoder.head, ids[counted + 1], weights[counted], *logits)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_losses_and_gradients_are_those_of_transformers(folder: Path, checkpointing: bool) -> None:
    theirs = plain(folder)
    wanted = plain_loss(theirs)
    wanted.backward()
    ours = model.load(folder, CPU, torch.float32, full=True, checkpointing=checkpointing)
    got = our_loss(ours)
    got.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-3)
    parameters = dict(theirs.named_parameters())
    assert ours.parameters.keys() == parameters.keys()
    for name, parameter in ours.parameters.items():
        scale = parameters[name].grad.abs().max()
        torch.testing.assert_close(parameter.grad / scale, parameters[name].grad / scale, rtol=1e-3, atol=1e-4)


def test_bfloat16_stays_near(folder: Path) -> None:
    with torch.no_grad():
        wanted = our_loss(model.load(folder, CPU, torch.float32, full=False))
        for full in (True, False):
            got = our_loss(model.load(folder, CPU, torch.bfloat16, full=full))
            assert abs(got / wanted - 1) < 0.02


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_layers_computed_again_give_the_same_gradients_of_adapters(folder: Path, compute: torch.dtype) -> None:
    """To the last bit."""
    found = []
    for checkpointing in (False, True):
        ours = model.load(folder, CPU, compute, full=False, checkpointing=checkpointing)
        halves = lora.attach(ours.linears, 4, 2.0, 1, CPU)
        noise = torch.Generator().manual_seed(2)
        for half in halves.values():
            half.data.normal_(generator=noise).mul_(0.05)
        our_loss(ours).backward()  # type: ignore[no-untyped-call]
        found.append([half.grad for half in halves.values()])
    for one, other in zip(*found, strict=True):
        assert one is not None
        assert other is not None
        assert one.abs().max() > 0
        assert torch.equal(one, other)


def test_what_is_frozen_gets_no_gradient(folder: Path) -> None:
    ours = model.load(folder, CPU, torch.float32, full=False)
    assert not ours.parameters
    assert not our_loss(ours).requires_grad


def config(**changes: Any) -> dict[str, Any]:
    return {**SMALL, "model_type": "llama", **changes}


def test_there_is_a_case_for_each_family() -> None:
    assert {KINDS.get(family.lower(), family.lower()) for family, _ in CASES.values()} == set(FAMILIES)


@pytest.mark.parametrize("kind", ["gpt2", "", "llama4"])
def test_families_that_are_not_known_are_refused(kind: str) -> None:
    with pytest.raises(Unsupported, match="cannot tune model type"):
        Shape.of(config(model_type=kind))


def test_an_activation_that_is_not_known_is_refused() -> None:
    with pytest.raises(Unsupported, match="'relu'"):
        Shape.of(config(hidden_act="relu"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot read"),
        ("[]", "cannot read"),
        ('{"model_type": "llama"}', "num_attention_heads"),
        ('{"model_type": "llama", "num_attention_heads": 0, "hidden_size": 1}', "num_attention_heads is 0"),
        ('{"model_type": "llama", "num_attention_heads": true, "hidden_size": 1}', "num_attention_heads is True"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BadModelFile, match=said):
        Shape.read(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_hidden_layers": 4}, r"lacks the tensor model\.layers\.3|lacks model\.layers\.3"),
        ({"num_hidden_layers": 2}, r"has tensors that a llama has not: model\.layers\.2"),
        ({"hidden_size": 32}, "its configuration says"),
        ({"vocab_size": 521}, r"embed_tokens\.weight of .* its configuration says \[521, 64\]"),
    ],
)
def test_weights_that_do_not_belong_to_a_configuration_are_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    import json

    write_model(tmp_path, "Llama")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(FreeholdError, match=said):
        model.load(tmp_path, CPU, torch.float32, full=False)
