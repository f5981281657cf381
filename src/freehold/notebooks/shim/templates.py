"""Chat templates by Unsloth's names, and a tokenizer that renders chats as the notebooks expect.

A template is taken where the tokenizer knows the token that ends its turns. Elsewhere the model would never learn to
stop, and its own template stays.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from freehold.core.errors import BadInput
from freehold.notebooks.shim.session import Session


def _turns(begin: str, end: str, *, first: str = "", assistant: str = "assistant") -> str:
    """A template whose turns are `begin` with ROLE in it, the text, and `end`."""
    before, _, after = begin.partition("ROLE")
    role = "message['role']"
    if assistant != "assistant":
        role = f"('{assistant}' if message['role'] == 'assistant' else message['role'])"
    return (
        f"{first}{{% for message in messages %}}{before}{{{{ {role} }}}}{after}"
        f"{{{{ message['content'] }}}}{end}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{before}{assistant}{after}{{% endif %}}"
    )


def _words(system: str, user: str, assistant: str, end: str) -> str:
    """A template whose turns begin with words, each kind with its own."""
    return (
        "{{ bos_token }}{% for message in messages %}"
        f"{{% if message['role'] == 'system' %}}{system}{{{{ message['content'] }}}}\n\n"
        f"{{% elif message['role'] == 'user' %}}{user}{{{{ message['content'] }}}}\n"
        f"{{% else %}}{assistant}{{{{ message['content'] }}}}{end}\n{{% endif %}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{assistant}{{% endif %}}"
    )


_BOS, _EOS = "{{ bos_token }}", "{{ eos_token }}"
_CHATML = (_turns("<|im_start|>ROLE\n", "<|im_end|>\n"), "<|im_end|>")
_LLAMA3 = (_turns("<|start_header_id|>ROLE<|end_header_id|>\n\n", "<|eot_id|>", first=_BOS), "<|eot_id|>")
_GEMMA = (_turns("<start_of_turn>ROLE\n", "<end_of_turn>\n", first=_BOS, assistant="model"), "<end_of_turn>")
_PHI3 = (_turns("<|ROLE|>\n", "<|end|>\n", first=_BOS), "<|end|>")
_MISTRAL = (
    _BOS + "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ message['content'] }}" + _EOS
    + "{% else %}[INST] {{ message['content'] }} [/INST]{% endif %}{% endfor %}",
    "",
)  # fmt: skip
_ALPACA = (_words("", "### Instruction:\n", "### Response:\n", f"{_EOS}\n"), "")
TEMPLATES: dict[str, tuple[str, str]] = {
    "chatml": _CHATML,
    "qwen-2.5": _CHATML,
    "qwen2.5": _CHATML,
    "qwen-3": _CHATML,
    "qwen3": _CHATML,
    "qwen3-instruct": _CHATML,
    "lfm-2": (_turns("<|im_start|>ROLE\n", "<|im_end|>\n", first=_BOS), "<|im_end|>"),
    "phi-4": (_turns("<|im_start|>ROLE<|im_sep|>", "<|im_end|>"), "<|im_end|>"),
    "llama-3": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-3.1": _LLAMA3,
    "llama-31": _LLAMA3,
    "llama-3.2": _LLAMA3,
    "llama-3.3": _LLAMA3,
    "gemma": _GEMMA,
    "gemma2": _GEMMA,
    "gemma-3": _GEMMA,
    "gemma3": _GEMMA,
    "phi-3": _PHI3,
    "phi-3.5": _PHI3,
    "mistral": _MISTRAL,
    "llama": _MISTRAL,
    "zephyr": (_turns("<|ROLE|>\n", f"{_EOS}\n"), ""),
    "alpaca": _ALPACA,
    "vicuna": (_words("", "USER: ", "ASSISTANT: ", _EOS), ""),
    "unsloth": (_words("", ">>> User: ", ">>> Assistant: ", _EOS), ""),
}
"""Each with the token that ends a turn; an empty one is the tokenizer's own end."""


class Chats:
    """Mixed into a tokenizer's class: chats in ShareGPT's words too, ids in place of transformers 5's dictionary."""

    mapping: Mapping[str, str] | None = None
    session: Session

    def apply_chat_template(self, conversation: Any, *args: Any, **options: Any) -> Any:
        """Render a chat, or several."""
        many = bool(conversation) and isinstance(conversation[0], list | tuple)
        chats = [self._chat(chat) for chat in conversation] if many else self._chat(conversation)
        options.setdefault("return_dict", False)
        return super().apply_chat_template(chats, *args, **options)  # type: ignore[misc]

    def _chat(self, chat: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        if not self.mapping:
            return [dict(message) for message in chat]
        names = self.mapping
        role, content = names.get("role", "role"), names.get("content", "content")
        roles = {theirs: ours for ours, theirs in names.items() if ours in ("user", "assistant", "system")}
        return [
            {"role": roles.get(message[role], message[role]), "content": message[content]}
            if role in message
            else dict(message)
            for message in chat
        ]

    def push_to_hub(self, *_: Any, **__: Any) -> None:
        """Raises Forbidden."""
        self.session.refuse("push_to_hub")


def tokenizer(session: Session, folder: Path) -> Any:
    """The tokenizer of a model's folder."""
    from transformers import AutoTokenizer

    made = AutoTokenizer.from_pretrained(folder)
    own = type(made)
    made.__class__ = type(own.__name__, (Chats, own), {})
    made.session = session
    if made.pad_token is None:
        made.pad_token = made.eos_token
    return made


def getter(session: Session) -> Callable[..., Any]:
    """`get_chat_template` of one notebook."""

    def get_chat_template(
        tokenizer: Any,
        chat_template: Any = "chatml",
        mapping: Mapping[str, str] | None = None,
        map_eos_token: bool = True,
        **_: Any,
    ) -> Any:
        text, end = _named(chat_template)
        tokenizer.mapping = mapping
        if not end or end in tokenizer.get_vocab():
            tokenizer.chat_template = text
            if end and end != tokenizer.eos_token and map_eos_token:
                tokenizer.eos_token = end
        elif tokenizer.chat_template:
            session.say(f"the model's own chat template stays: its tokenizer has no {end}, the end of {chat_template}")
        else:
            session.say(f"the end of a turn is {tokenizer.eos_token} in place of {end}, which the tokenizer lacks")
            tokenizer.chat_template = text.replace(end, tokenizer.eos_token)
        return tokenizer

    return get_chat_template


def _named(given: Any) -> tuple[str, str]:
    """A template and its end, by name or as the notebook itself has it."""
    if isinstance(given, list | tuple) and len(given) == 2:
        text, end = map(str, given)
        return text, "" if end in ("eos_token", "") else end
    if given not in TEMPLATES:
        raise BadInput(f"unknown chat template {given!r}", f"Known: {', '.join(TEMPLATES)}; or a (template, end) pair")
    return TEMPLATES[given]
