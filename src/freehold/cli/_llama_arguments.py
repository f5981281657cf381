"""llama-server's arguments and LLAMA_ARG_* variables: which are honoured, change nothing here, or cannot be honoured.

https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
"""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

from freehold.core.errors import BadInput, Unsupported

Kind = Literal["flag", "whole", "number", "text"]


class Argument(NamedTuple):
    """One argument: the names that set it, the variable that does, and where its value goes."""

    names: str
    to: str
    """`own.x`, `params.x` or `sampling.x`; `idle` for what changes nothing here, `never` for what is refused."""
    kind: Kind = "text"
    env: str = ""
    off: str = ""
    """Names that turn a flag off."""
    low: float = -1
    high: float = 1 << 31
    why: str = ""


def _whole(names: str, to: str, env: str = "", low: float = -1, high: float = 1 << 31) -> Argument:
    return Argument(names, to, "whole", env, low=low, high=high)


def _number(names: str, to: str, env: str = "", low: float = -1, high: float = 100) -> Argument:
    return Argument(names, to, "number", env, low=low, high=high)


def _flag(names: str, to: str, env: str = "", off: str = "") -> Argument:
    return Argument(names, to, "flag", env, off)


def _idle(names: str, kind: Kind = "text", why: str = "Freehold does it its own way", env: str = "") -> Argument:
    return Argument(names, "idle", kind, env, why=why)


def _never(names: str, why: str, kind: Kind = "text", env: str = "") -> Argument:
    return Argument(names, "never", kind, env, why=why)


ARGUMENTS = (
    Argument("-m --model", "own.model", env="MODEL"),
    Argument("-hf -hfr --hf-repo", "own.hf_repo", env="HF_REPO"),
    Argument("-hff --hf-file", "own.hf_file", env="HF_FILE"),
    Argument("-a --alias", "own.alias", env="ALIAS"),
    Argument("--tags", "own.tags", env="TAGS"),
    Argument("--host", "own.host", env="HOST"),
    _whole("--port", "own.port", "PORT", 0, 65535),
    Argument("--api-key", "own.api_key", env="LLAMA_API_KEY"),
    Argument("--api-key-file", "own.api_key_file"),
    Argument("--cors-origins", "own.cors_origins", env="CORS_ORIGINS"),
    Argument("--chat-template-file", "own.chat_template_file", env="CHAT_TEMPLATE_FILE"),
    Argument("--chat-template", "own.chat_template", env="CHAT_TEMPLATE"),
    Argument("--lora", "own.lora"),
    Argument("-mm --mmproj", "own.mmproj", env="MMPROJ"),
    _flag("--mmproj-auto", "own.mmproj_auto", "MMPROJ_AUTO", "--no-mmproj --no-mmproj-auto"),
    _flag("--offline", "own.offline", "OFFLINE"),
    _flag("--embedding --embeddings", "own.embedding", "EMBEDDINGS"),
    _flag("--rerank --reranking", "own.reranking", "RERANKING"),
    _flag("--metrics", "own.metrics", "ENDPOINT_METRICS"),
    _flag("--slots", "own.slots", "ENDPOINT_SLOTS", "--no-slots"),
    _flag("-v --verbose --log-verbose", "own.verbose"),
    Argument("--slot-save-path", "own.slot_folder"),
    _whole("-np --parallel", "own.parallel", "N_PARALLEL", -1, 64),
    _whole("-t --threads", "own.threads", "THREADS", -1, 1024),
    _whole("--sleep-idle-seconds", "own.sleep", "", -1, 1 << 30),
    _whole("-c --ctx-size", "params.n_ctx", "CTX_SIZE", 0, 1 << 24),
    _whole("-n --predict --n-predict", "params.n_predict", "N_PREDICT", -2, 1 << 24),
    _whole("-b --batch-size", "params.n_batch", "BATCH", 1, 1 << 20),
    _whole("-ub --ubatch-size", "params.n_ubatch", "UBATCH", 1, 1 << 20),
    _whole("--keep", "params.n_keep", "", -1, 1 << 24),
    Argument("-ngl --gpu-layers --n-gpu-layers", "params.n_gpu_layers", env="N_GPU_LAYERS"),
    _whole("-mg --main-gpu", "params.main_gpu", "MAIN_GPU", 0, 64),
    Argument("-fa --flash-attn", "params.flash_attn_type", env="FLASH_ATTN"),
    Argument("-ctk --cache-type-k", "params.cache_type_k", env="CACHE_TYPE_K"),
    Argument("-ctv --cache-type-v", "params.cache_type_v", env="CACHE_TYPE_V"),
    _flag("-kvo --kv-offload", "params.kv_offload", "KV_OFFLOAD", "-nkvo --no-kv-offload"),
    _flag("-kvu --kv-unified", "params.kv_unified", "KV_UNIFIED", "-no-kvu --no-kv-unified"),
    _flag("--swa-full", "params.swa_full", "SWA_FULL"),
    _flag("--context-shift", "params.ctx_shift", "CONTEXT_SHIFT", "--no-context-shift"),
    _flag("-cb --cont-batching", "params.cont_batching", "CONT_BATCHING", "-nocb --no-cont-batching"),
    _flag("--warmup", "params.warmup", "", "--no-warmup"),
    _flag("--mmproj-offload", "params.mmproj_use_gpu", "MMPROJ_OFFLOAD", "--no-mmproj-offload"),
    _whole("--image-min-tokens", "params.image_min_tokens", "IMAGE_MIN_TOKENS", 1, 1 << 20),
    _whole("--image-max-tokens", "params.image_max_tokens", "IMAGE_MAX_TOKENS", 1, 1 << 20),
    _flag("-sp --special", "params.special"),
    _flag("--check-tensors", "params.check_tensors"),
    _flag("--jinja", "params.use_jinja", "JINJA", "--no-jinja"),
    _flag("--prefill-assistant", "params.prefill_assistant", "PREFILL_ASSISTANT", "--no-prefill-assistant"),
    Argument("--pooling", "params.pooling_type", env="POOLING"),
    Argument("--reasoning-format", "params.reasoning_format", env="THINK"),
    Argument("-rea --reasoning", "params.enable_reasoning", env="REASONING"),
    _whole("--embd-normalize", "params.embd_normalize", "", -1, 64),
    _whole("-cram --cache-ram", "params.cache_ram_mib", "CACHE_RAM", -1, 1 << 24),
    _flag("--cache-idle-slots", "params.cache_idle_slots", "CACHE_IDLE_SLOTS", "--no-cache-idle-slots"),
    _flag("--cache-prompt", "params.cache_prompt", "CACHE_PROMPT", "--no-cache-prompt"),
    _whole("--cache-reuse", "params.n_cache_reuse", "CACHE_REUSE", 0, 1 << 24),
    _number("-sps --slot-prompt-similarity", "params.slot_prompt_similarity", "", 0, 1),
    _number("--rope-freq-base", "params.rope_freq_base", "ROPE_FREQ_BASE", 0, 1e12),
    _number("--rope-freq-scale", "params.rope_freq_scale", "ROPE_FREQ_SCALE", 0, 1e6),
    Argument("-s --seed", "sampling.seed"),
    _number("--temp --temperature", "sampling.temp", "TEMPERATURE", 0, 2),
    _whole("--top-k", "sampling.top_k", "TOP_K", 0, 1 << 20),
    _number("--top-p", "sampling.top_p", "TOP_P", 0, 1),
    _number("--min-p", "sampling.min_p", "MIN_P", 0, 1),
    _number("--typical --typical-p", "sampling.typ_p", "", 0, 1),
    _number("--xtc-probability", "sampling.xtc_probability", "", 0, 1),
    _number("--xtc-threshold", "sampling.xtc_threshold", "", 0, 1),
    _whole("--repeat-last-n", "sampling.penalty_last_n", "", -1, 1 << 20),
    _number("--repeat-penalty", "sampling.penalty_repeat", "REPEAT_PENALTY", 0, 10),
    _number("--presence-penalty", "sampling.penalty_present", "PRESENCE_PENALTY", -2, 2),
    _number("--frequency-penalty", "sampling.penalty_freq", "FREQUENCY_PENALTY", -2, 2),
    _number("--dry-multiplier", "sampling.dry_multiplier", "", 0),
    _number("--dry-base", "sampling.dry_base", "", 0),
    _whole("--dry-allowed-length", "sampling.dry_allowed_length", "", 0, 1 << 20),
    _whole("--dry-penalty-last-n", "sampling.dry_penalty_last_n", "", -1, 1 << 20),
    _number("--dynatemp-range", "sampling.dynatemp_range", "", 0, 10),
    _number("--dynatemp-exp", "sampling.dynatemp_exponent", "", 0, 10),
    _whole("--mirostat", "sampling.mirostat", "", 0, 2),
    _number("--mirostat-lr", "sampling.mirostat_eta", "", 0),
    _number("--mirostat-ent", "sampling.mirostat_tau", "", 0),
    _number("--adaptive-target", "sampling.adaptive_target", "", -1, 1),
    _number("--adaptive-decay", "sampling.adaptive_decay", "", 0, 1),
    _flag("--ignore-eos", "sampling.ignore_eos"),
    _flag("-bs --backend-sampling", "sampling.backend_sampling", "BACKEND_SAMPLING"),
    _idle("--no-ui --no-webui --ui --webui", "flag", "there is no page"),
    _idle("-tb --threads-batch --threads-http --prio --poll -lv --verbosity --log-verbosity -to --timeout"),
    _idle("-fit --fit -fitt --fit-target -fitc --fit-ctx -dt --defrag-thold --numa -lm --load-mode -ctxcp"),
    _idle("--log-file --log-colors --ctx-checkpoints -hft --hf-token --spec-draft-n-max --spec-draft-n-min"),
    _idle("--mlock --no-mmap --mmap --perf --no-perf -e --escape --no-escape --log-disable --repack", "flag"),
    _idle("--no-repack -nr --no-host --op-offload --no-op-offload --log-prefix --log-timestamps", "flag"),
    _idle("--models-autoload --no-models-autoload --reuse-port", "flag"),
    _idle("--models-dir --models-max", why="the models of Freehold's store are served"),
    _never("-mmu --mmproj-url", "a model is fetched by 'freehold pull'"),
    _never("--media-path", "images come in requests"),
    _never("-md --model-draft --spec-draft-model --spec-type", "no model drafts for another"),
    _never("-mu --model-url -dr --docker-repo", "a model is fetched by 'freehold pull'"),
    _never("--tools --tools-runtime --mcp-servers-config --mcp-servers-json", "the server runs no tools"),
    _never("-ag --agent --ui-mcp-proxy --webui-mcp-proxy", "the server fetches nothing for pages", "flag"),
    _never("--ssl-key-file --ssl-cert-file", "it speaks plain HTTP on this machine alone"),
    _never("--api-prefix --path --models-preset", "it serves at the root and from the store alone"),
    _never("--rpc --control-vector --control-vector-scaled --lora-scaled --override-kv -ot --override-tensor",
           "the worker is not started with it"),
    _never("-dev --device -sm --split-mode -ts --tensor-split", "the worker chooses its devices"),
    _never("--grammar --grammar-file -j --json-schema -jf --json-schema-file --samplers --sampler-seq -l --logit-bias",
           "requests say it themselves"),
    _never("--rope-scaling --rope-scale --yarn-orig-ctx --yarn-ext-factor", "the model's file says it"),
)  # fmt: skip
_WORDS = {"on": True, "true": True, "1": True, "enabled": True, "off": False, "false": False, "0": False,
          "disabled": False}  # fmt: skip


class Given(NamedTuple):
    """What the command line and the environment say."""

    own: dict[str, Any]
    params: dict[str, Any]
    sampling: dict[str, Any]
    notes: list[str]
    """A line for each thing that changes nothing here."""


def parse(args: Sequence[str], environ: Mapping[str, str]) -> Given:
    """Read them; arguments go before variables. Raises BadInput, and Unsupported for what cannot be honoured."""
    given = Given({}, {}, {}, [])
    for argument in ARGUMENTS:
        variable = argument.env if argument.env == "LLAMA_API_KEY" else f"LLAMA_ARG_{argument.env}"
        text = environ.get(variable, "") if argument.env else ""
        if text:
            _put(given, argument, variable, _value(argument, variable, text))
    for name, argument, value in _pairs(args):
        _put(given, argument, name, value)
    return given


def _pairs(args: Sequence[str]) -> Iterator[tuple[str, Argument, Any]]:
    known = {name: argument for argument in ARGUMENTS for name in argument.names.split()}
    offs = {name: argument for argument in ARGUMENTS for name in argument.off.split()}
    left = iter(args)
    for given in left:
        name = given.replace("_", "-") if given.startswith("--") else given
        if name in offs:
            yield name, offs[name], False
        elif name not in known:
            near = get_close_matches(name, [*known, *offs], 1, 0.6)
            raise BadInput(f"invalid argument: {given[:80]!r}", f"Did you mean {near[0]}?" if near else "See --help")
        elif known[name].kind == "flag":
            yield name, known[name], True
        else:
            text = next(left, None)
            if text is None:
                raise BadInput(f"{name} needs a value", "See --help")
            yield name, known[name], _value(known[name], name, text)


def _value(argument: Argument, name: str, text: str) -> Any:
    if argument.kind == "text":
        return text
    if argument.kind == "flag":
        if text.lower() not in _WORDS:
            raise BadInput(f"{name} is {text[:40]!r}", "Set it to 1 or 0")
        return _WORDS[text.lower()]
    try:
        value = int(text) if argument.kind == "whole" else float(text)
    except ValueError:
        raise BadInput(f"{name} is {text[:40]!r}, which is no number", "See --help") from None
    if not argument.low <= value <= argument.high:
        raise BadInput(f"{name} is {text[:40]}", f"Give {argument.low:g} to {argument.high:g}")
    return value


def _put(given: Given, argument: Argument, name: str, value: Any) -> None:
    if argument.to == "never":
        raise Unsupported(f"{name} cannot be honoured: {argument.why}", f"Leave out {name}")
    if argument.to == "idle":
        given.notes.append(f"{name} changes nothing here: {argument.why}")
        return
    group, _, field = argument.to.partition(".")
    target: dict[str, Any] = getattr(given, group)
    if field in ("lora", "api_key"):
        target[field] = [*target.get(field, []), *value.split(",")]
    else:
        target[field] = _meant(field, value)


def _meant(field: str, value: Any) -> Any:
    """A value as the worker takes it: numbers for words, the ends of the names of an enumeration's members."""
    match field:
        case "n_gpu_layers":
            words = {"auto": -1, "all": 999}
            return words[value] if value in words else _integer("-ngl", value, "Give a number, auto or all", 1 << 20)
        case "seed":
            return _integer("--seed", value, "Give a whole number", 1 << 64) & 0xFFFFFFFF
        case "flash_attn_type":
            return _choice("-fa", value, {"on": "enabled", "off": "disabled", "auto": "auto"})
        case "enable_reasoning":
            return _choice("--reasoning", value, {"on": 1, "off": 0, "auto": -1})
        case "pooling_type":
            return _choice("--pooling", value, {name: name for name in ("none", "mean", "cls", "last", "rank")})
        case "reasoning_format":
            formats = ("none", "auto", "deepseek", "deepseek-legacy")
            return _choice("--reasoning-format", value, {name: name.replace("-", "_") for name in formats})
        case "cache_type_k" | "cache_type_v":
            kinds = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
            return _choice("-ctk", value, {name: name for name in kinds})
        case _:
            return value


def _integer(name: str, value: str, remedy: str, most: int) -> int:
    try:
        number = int(value)
    except ValueError:
        raise BadInput(f"{name} is {value[:40]!r}", remedy) from None
    if abs(number) > most:
        raise BadInput(f"{name} is {value[:40]}", f"Give at most {most}")
    return number


def _choice(name: str, value: str, known: Mapping[str, Any]) -> Any:
    if value not in known:
        raise BadInput(f"{name} is {value[:40]!r}", f"Known: {', '.join(known)}")
    return known[value]
