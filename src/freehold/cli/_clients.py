"""What to change in clients and apps so that they use this server: a line or a few for each."""

from typing import Literal, NamedTuple


class Client(NamedTuple):
    """A client or app. `{url}` in `text` stands for the server, `{model}` for a model."""

    name: str
    title: str
    form: Literal["shell", "python", "javascript", "yaml", "toml"]
    text: str


CLIENTS = (
    Client(
        "curl",
        "curl",
        "shell",
        'curl {url}/v1/chat/completions -H "Content-Type: application/json" \\\n'
        '  -d \'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}\'',
    ),
    Client("openai", "any program on OpenAI's client", "shell", "export OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY=none"),
    Client(
        "openai-python",
        "OpenAI's client for Python",
        "python",
        'from openai import OpenAI\nclient = OpenAI(base_url="{url}/v1", api_key="none")',
    ),
    Client(
        "openai-javascript",
        "OpenAI's client for JavaScript",
        "javascript",
        'import OpenAI from "openai"\nconst client = new OpenAI({{ baseURL: "{url}/v1", apiKey: "none" }})',
    ),
    Client(
        "anthropic",
        "any program on Anthropic's client",
        "shell",
        "export ANTHROPIC_BASE_URL={url} ANTHROPIC_API_KEY=none",
    ),
    Client("ollama", "any program on Ollama's client, and Ollama's own", "shell", "export OLLAMA_HOST={url}"),
    Client(
        "langchain",
        "LangChain, langchain-openai",
        "python",
        "from langchain_openai import ChatOpenAI\n"
        'model = ChatOpenAI(model="{model}", base_url="{url}/v1", api_key="none")',
    ),
    Client(
        "langchain-ollama",
        "LangChain, langchain-ollama",
        "python",
        'from langchain_ollama import ChatOllama\nmodel = ChatOllama(model="{model}", base_url="{url}")',
    ),
    Client(
        "llamaindex",
        "LlamaIndex, llama-index-llms-openai-like",
        "python",
        "from llama_index.llms.openai_like import OpenAILike\n"
        'model = OpenAILike(model="{model}", api_base="{url}/v1", api_key="none", is_chat_model=True)',
    ),
    Client(
        "llamaindex-ollama",
        "LlamaIndex, llama-index-llms-ollama",
        "python",
        'from llama_index.llms.ollama import Ollama\nmodel = Ollama(model="{model}", base_url="{url}")',
    ),
    Client(
        "litellm",
        "LiteLLM",
        "python",
        "from litellm import completion\n"
        'answer = completion(model="openai/{model}", api_base="{url}/v1", api_key="none", messages=messages)',
    ),
    Client(
        "claude-code",
        "Claude Code",
        "shell",
        "ANTHROPIC_BASE_URL={url} ANTHROPIC_AUTH_TOKEN=none claude --model {model}",
    ),
    Client(
        "codex",
        "Codex CLI, in ~/.codex/config.toml",
        "toml",
        "# Its first request has 43 kB: serve with FREEHOLD_CONTEXT_LENGTH=32768 or more.\n"
        'model = "{model}"\nmodel_provider = "freehold"\nweb_search = "disabled"\n\n'
        '[model_providers.freehold]\nname = "Freehold"\nbase_url = "{url}/v1"\nwire_api = "responses"',
    ),
    Client("aider", "aider", "shell", "OPENAI_API_BASE={url}/v1 OPENAI_API_KEY=none aider --model openai/{model}"),
    Client("open-webui", "Open WebUI", "shell", "OLLAMA_BASE_URL={url} ENABLE_OPENAI_API=False open-webui serve"),
    Client(
        "continue",
        "Continue, in ~/.continue/config.yaml",
        "yaml",
        "models:\n  - name: {model}\n    provider: openai\n    model: {model}\n    apiBase: {url}/v1\n    apiKey: none",
    ),
    Client(
        "lm-eval",
        "lm-evaluation-harness",
        "shell",
        "lm_eval --model local-chat-completions --apply_chat_template \\\n"
        "  --model_args model={model},base_url={url}/v1/chat/completions --tasks gsm8k",
    ),
)
