"""Real requests to a customer service: the starter learns the answers, and the held-out requests show it."""

from pathlib import Path

import pytest

from freehold.core.settings import Settings
from freehold.recipes.runner import make

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

RECIPE = """
[model]
name = "support"
[data]
path = "{path}"
columns = {{user = "instruction", assistant = "response"}}
[tune]
method = "full"
learning_rate = 1e-3
epochs = 1
batch_tokens = 2048
[quantize]
types = ["Q4_K_M"]
[gate]
min_token_f1 = 0.75
max_quantized_drop = 0.03
"""


def test_support_requests(test_data: Path, tmp_path: Path, settings: Settings) -> None:
    source = next(test_data.glob("bitext_customer_support/*2023-08-07.csv"))
    (tmp_path / "support.toml").write_text(RECIPE.format(path=source))
    outcome = make(tmp_path / "support.toml", settings)
    figures = {line.model: line for line in outcome.measured}
    assert outcome.passed
    assert figures["base"].token_f1 < 0.35
    assert figures["tuned"].token_f1 >= 0.75
    assert abs(figures["tuned"].token_f1 - figures["Q4_K_M"].token_f1) <= 0.03
    assert figures["tuned"].rows == 200
