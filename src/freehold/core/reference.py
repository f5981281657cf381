"""Reference: what a person types to say where a model comes from, in any of the ways that are in use.

The rule, first match wins (docs/names.md tells it to people):

1. `./x`, `../x`, `/x`, `~/x`, `file://x`: a file or folder of this machine.
2. `scheme://…`: the scheme decides. A web address of the Hub or of Ollama's library means the model on that page.
3. `hf.co/…`, `huggingface.co/…`, `ollama.com/…`, `registry.ollama.ai/…`: as with a scheme.
4. The name of a file or folder that is here, or anything that ends in .gguf, .safetensors or .fhb: that.
5. `org/repo`: Hugging Face Hub. After `:` comes a quantisation type; after `@` one too, otherwise a revision.
6. `model@type`: as LM Studio writes it, the repository of that name that LM Studio's own organisation has on the Hub.
7. `model`, `model:tag`: Ollama's registry.
"""

import re
from collections.abc import Callable
from typing import Literal, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from freehold.core.errors import BadName, Unsupported

Kind = Literal["hub", "ollama", "url", "path"]
OLLAMA = "registry.ollama.ai"
STUDIO = "lmstudio-community"
MAX_TEXT = 2048

_HUB_HOSTS = {"hf.co", "huggingface.co", "www.huggingface.co"}
_OLLAMA_HOSTS = {"ollama.com", "www.ollama.com", OLLAMA}
_PATHS = ("./", "../", "/", "~")
_FILES = (".gguf", ".safetensors", ".fhb")
_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,99}){0,3}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+ -]{0,199}")
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?::\d{1,5})?")
_QUANT = re.compile(
    r"(?:UD-)?(?:I?Q[1-8]_[A-Z0-9]{1,3}(?:_[A-Z0-9]{1,4}){0,3}|TQ[12]_0|MXFP4(?:_MOE)?|NVFP4|BF16|FP?16|FP?32)",
    re.IGNORECASE,
)
_REMEDY = "Write org/repo:TYPE, hf.co/org/repo, ollama://model:tag, https://host/file.gguf or ./file.gguf"
_WEB = ("tree", "blob", "resolve", "raw")


_SPELLED = re.compile(rf"(?:^|[-._ ])({_QUANT.pattern})(?=$|[-. ])", re.IGNORECASE)


def quant_in(text: str) -> str:
    """The last quantisation type that a file's name spells, in capitals; empty when it spells none."""
    found = _SPELLED.findall(text)
    return str(found[-1]).upper() if found else ""


def is_quant(text: str) -> bool:
    """Whether `text` is how somebody spells a GGUF quantisation type, in either case."""
    return bool(_QUANT.fullmatch(text))


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model comes from. `str` is its one canonical spelling, and parses to the same place again."""

    kind: Kind
    place: str = ""
    """The path or web address; for the registry its host."""
    org: str = ""
    model: str = ""
    revision: str = ""
    """A branch, tag or commit of the Hub's; the digest of a registry's manifest."""
    file: str = ""
    """One file of the repository."""
    variant: str = ""
    """The quantisation type asked for, or the registry's tag."""
    why: str = ""
    """Which rule took it for this, in words."""

    def __str__(self) -> str:
        if self.kind == "path":
            return self.place if self.place.startswith(_PATHS) else f"./{self.place}"
        if self.kind == "url":
            return self.place
        if self.kind == "ollama":
            pinned = f"@{self.revision}" if self.revision else ""
            return f"ollama://{self.place}/{self.org}/{self.model}:{self.variant}{pinned}"
        revision = f"@{self.revision}" if self.revision else ""
        file = f"//{self.file}" if self.file else ""
        variant = f":{self.variant}" if self.variant else ""
        return f"hf://{self.repo}{revision}{file}{variant}"

    @property
    def repo(self) -> str:
        """`org/model`."""
        return f"{self.org}/{self.model}" if self.org else self.model

    def at(self, revision: str) -> "Reference":
        """The same at another revision. Raises BadName, Unsupported where there are none."""
        if self.kind != "hub":
            raise Unsupported(f"{shorten(self)} has no revisions", "Leave --revision out: only the Hub has them")
        return msgspec.structs.replace(self, revision=_checked(_REVISION, revision, revision, "a revision"))


def shorten(text: object, limit: int = 160) -> str:
    """Text for a message: on one line, not too long."""
    plain = "".join(c if c.isprintable() else "?" for c in str(text))
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def parse(text: str, exists: Callable[[str], bool] = lambda path: False) -> Reference:
    """The place that `text` means. `exists` says whether a path is there. Raises BadName, Unsupported."""
    if not text or len(text) > MAX_TEXT or not text.isprintable() or text != text.strip():
        raise BadName(f"not a source: {shorten(text)!r}", _REMEDY)
    if text.startswith(_PATHS) or text in (".", ".."):
        return Reference(kind="path", place=text, why="it starts like a path")
    scheme, found, rest = text.partition("://")
    if found:
        return _by_scheme(scheme.lower(), rest, text)
    host, _, rest = text.partition("/")
    if host.lower() in _HUB_HOSTS:
        return _hub(rest, text, f"{host} is the Hugging Face Hub")
    if host.lower() in _OLLAMA_HOSTS:
        return _ollama(_without_library(rest), text, f"{host} is Ollama's registry")
    if exists(text):
        return Reference(kind="path", place=text, why=f"there is a {text} here, which goes first")
    if text.lower().endswith(_FILES):
        return Reference(kind="path", place=text, why="it ends like a model's file")
    return _bare(text)


def _bare(text: str) -> Reference:
    if "/" in text:
        return _hub(text, text, "org/repo without more is the Hugging Face Hub")
    if "@" in text:
        model, _, quant = text.partition("@")
        if not is_quant(quant):
            raise BadName(f"not a source: {shorten(text)!r}", "After model@ comes a quantisation type such as q4_k_m")
        why = f"model@type is LM Studio's way of writing, and its models are {STUDIO}'s on the Hub"
        return _hub(f"{STUDIO}/{model}-GGUF:{quant}", text, why)
    return _ollama(text, text, "a bare name is a model of Ollama's registry; for the Hub write org/repo")


def _by_scheme(scheme: str, rest: str, text: str) -> Reference:
    if scheme in ("hf", "huggingface"):
        return _hub(rest, text, f"{scheme}:// is the Hugging Face Hub")
    if scheme == "ollama":
        return _ollama(rest, text, "ollama:// is a registry as Ollama has it")
    if scheme == "file":
        if not rest.startswith("/"):
            raise BadName(f"not a source: {shorten(text)!r}", "Write file:///path or just the path")
        return Reference(kind="path", place=rest, why="file:// is a path")
    if scheme in ("http", "https"):
        return _web(scheme, text)
    raise Unsupported(f"no models come from {shorten(scheme, 40)}://", _REMEDY)


class _Pieces(NamedTuple):
    host: str
    path: str
    credentials: bool


def _split(text: str) -> _Pieces:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise BadName(f"not a web address: {shorten(text)!r}", _REMEDY) from error
    host = (parts.hostname or "") + (f":{port}" if port is not None else "")
    if not host or not (_HOST.fullmatch(host) or host.startswith("[") or ":" in (parts.hostname or "")):
        raise BadName(f"not a web address: {shorten(text)!r}", _REMEDY)
    return _Pieces(host, parts.path, parts.username is not None or parts.password is not None)


def _web(scheme: str, text: str) -> Reference:
    host, path, credentials = _split(text)
    if credentials:
        raise BadName(f"{host}: a web address must not hold a password", "Leave out what stands before the @")
    if host in _HUB_HOSTS:
        return _page(unquote(path.strip("/")), text)
    if host in _OLLAMA_HOSTS:
        return _ollama(_without_library(path.strip("/")), text, f"{host} is Ollama's registry")
    if not path.strip("/"):
        raise BadName(f"{shorten(text)!r} names no file", "Give the address of the file itself")
    return Reference(kind="url", place=text, why=f"{scheme}:// is the address of a file")


def _page(path: str, text: str) -> Reference:
    """What a page of the Hub shows: a repository, a revision of it, or one file."""
    pieces = path.split("/")
    org, repo, verb, revision = (*pieces, "", "", "")[:4]
    file = pieces[4:]
    why = "this page of the Hub shows it"
    if not verb:
        return _hub(f"{org}/{repo}", text, why)
    if verb not in _WEB or not revision:
        raise BadName(f"{shorten(text)!r} is no page of a repository or file", _REMEDY)
    place = f"{org}/{repo}@{revision}" + (f"//{'/'.join(file)}" if verb != "tree" and file else "")
    return _hub(place, text, why, revision_only=True)


def _hub(rest: str, text: str, why: str, *, revision_only: bool = False) -> Reference:
    body, doubled, file = rest.partition("//")
    variant = ""
    if doubled:
        if ":" in file:
            raise BadName(f"not a source: {shorten(text)!r}", "Name a file or a type, not both")
    else:
        body, colon, variant = body.partition(":")
        if colon and not variant:
            raise BadName(f"not a source: {shorten(text)!r}", "After : comes a quantisation type such as Q4_K_M")
    body, at, revision = body.partition("@")
    if at and not revision_only and not text.startswith("hf://") and not variant and is_quant(revision):
        variant, revision, at = revision, "", ""
    org, slash, model = body.partition("/")
    model, deeper, inner = model.partition("/")
    if deeper and not doubled:  # hf://org/repo/file.gguf, as fsspec writes it
        file, doubled = inner, "//"
    return Reference(
        kind="hub",
        org=_checked(_PART, org, text, "an organisation or user"),
        model=_checked(_PART, model if slash else "", text, "a repository"),
        revision=_checked(_REVISION, revision, text, "a revision") if at else "",
        file=_repo_file(file, text) if doubled else "",
        variant=_variant(variant, text),
        why=why,
    )


def _variant(variant: str, text: str) -> str:
    """The quantisation type, in its usual case; `latest` is no wish."""
    if not variant or variant == "latest":
        return ""
    checked = _checked(_PART, variant, text, "a quantisation type")
    return checked.upper() if is_quant(checked) else checked


def _repo_file(file: str, text: str) -> str:
    for step in file.split("/"):
        _checked(_FILE, step, text, "a file of a repository")
    return file


def _without_library(rest: str) -> str:
    return rest.removeprefix("library/") if rest.count("/") == 1 else rest


def _ollama(rest: str, text: str, why: str) -> Reference:
    *places, last = rest.split("/")
    host = places.pop(0).lower() if len(places) == 2 else OLLAMA
    if len(places) > 1 or not (_HOST.fullmatch(host)):
        raise BadName(f"not a source: {shorten(text)!r}", "Write ollama://model:tag or ollama://host/org/model:tag")
    last, at, revision = last.partition("@")
    model, colon, tag = last.partition(":")
    if colon and not tag:
        raise BadName(f"not a source: {shorten(text)!r}", "After : comes a tag such as 1b or latest")
    return Reference(
        kind="ollama",
        place=OLLAMA if host in _OLLAMA_HOSTS else host,
        org=_checked(_PART, places[0], text, "an organisation or user").lower() if places else "library",
        model=_checked(_PART, model, text, "a model").lower(),
        revision=_checked(_DIGEST, revision, text, "the digest of a manifest") if at else "",
        variant=_checked(_PART, tag or "latest", text, "a tag"),
        why=why,
    )


def _checked(form: re.Pattern[str], part: str, text: str, what: str) -> str:
    if not form.fullmatch(part) or ".." in part:
        raise BadName(f"not a source: {shorten(text)!r} ({shorten(part, 60)!r} is not {what})", _REMEDY)
    return part
