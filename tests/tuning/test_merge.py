"""What is no plain adapter is not merged as if it were one."""

import json
from pathlib import Path
from typing import Any

import pytest

from freehold.core.errors import Unsupported

pytest.importorskip("torch")

from freehold.tuning.merge import merge


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"init_lora_weights": "pissa"}, "init_lora_weights pissa changed the base's weights"),
        ({"init_lora_weights": "LoftQ"}, "init_lora_weights LoftQ"),
        ({"alora_invocation_tokens": [1]}, "only plain LoRA"),
        ({"use_qalora": True}, "only plain LoRA"),
        ({"peft_type": "IA3"}, "only plain LoRA"),
    ],
)
def test_adapters_that_are_more_than_two_matrices_are_refused(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    (tmp_path / "adapter").mkdir()
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, **changes}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(Unsupported, match=said) as caught:
        merge(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged")
    assert caught.value.remedy
    assert not (tmp_path / "merged").exists()
