"""Hugging Face Hub, or what HF_ENDPOINT names: listed through huggingface_hub, which also knows the user's token."""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import BadName, Conflict, Forbidden, FreeholdError, MissingExtra, NotFound, SourceFailed
from freehold.core.manifest import Role
from freehold.core.reference import Reference
from freehold.formats.reading import shown
from freehold.store import projectors
from freehold.store.fetching import Remote
from freehold.store.folders import NESTED
from freehold.store.outbound import Outbound, check_passing, host, translated
from freehold.store.sources import choosing
from freehold.store.sources.offer import Offer

if TYPE_CHECKING:
    from huggingface_hub import HfApi

DEFAULT = "https://huggingface.co"
MAX_FILES = 20_000
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_GIT = re.compile(r"[0-9a-f]{40}")
_GGUF: tuple[Role, ...] = ("gguf",)
_LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,99}")


class _Choice(NamedTuple):
    names: list[str]
    gguf: bool
    why: str
    quant: str = ""
    projector: str = ""
    """A file with which the model sees images."""


class _Listed(msgspec.Struct):
    size: int
    digest: Digest | None
    git: str


def look(reference: Reference, outbound: Outbound) -> Offer:
    """The files of the repository that make the model asked for, at the commit that the revision is now."""
    label = reference.repo
    if _switched_on("HF_HUB_OFFLINE") or _switched_on("TRANSFORMERS_OFFLINE"):
        raise Forbidden(f"offline: {label} was not looked up", "Unset HF_HUB_OFFLINE, or pull a local file")
    outbound.refuse_offline(label)
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or DEFAULT
    api = _api(endpoint, outbound)
    info = outbound.patiently(lambda: _info(api, endpoint, reference, outbound.stall))
    return _offer(reference, endpoint, info, _headers(api))


def _info(api: "HfApi", endpoint: str, reference: Reference, timeout: float) -> Any:
    with _errors(endpoint, reference):
        return api.model_info(reference.repo, revision=reference.revision or None, files_metadata=True, timeout=timeout)


def _switched_on(variable: str) -> bool:
    return os.environ.get(variable, "").upper() in ("1", "ON", "YES", "TRUE")


def _api(endpoint: str, outbound: Outbound) -> "HfApi":
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtra("pulling from the Hub needs huggingface_hub", "pip install huggingface_hub") from error
    huggingface_hub.set_client_factory(outbound.connected)
    return huggingface_hub.HfApi(endpoint=endpoint, library_name="freehold")


def _headers(api: "HfApi") -> dict[str, str]:
    """Who asks: the user's token goes to the endpoint and, by the client's rule, to no other host."""
    from huggingface_hub.utils._headers import build_hf_headers

    headers = build_hf_headers(library_name="freehold")
    return {name: value for name, value in headers.items() if name.lower() in ("authorization", "user-agent")}


@contextmanager
def _errors(endpoint: str, reference: Reference) -> Iterator[None]:
    """What the Hub says, in our words."""
    from huggingface_hub import errors

    label, where = reference.repo, host(endpoint)
    try:
        with translated(endpoint):
            yield
    except errors.GatedRepoError as error:
        page = f"Accept its terms at {endpoint}/{label}, then set HF_TOKEN or run 'hf auth login'"
        raise Forbidden(f"{label} is gated: {where} gives it to those who accepted its terms", page) from error
    except errors.RevisionNotFoundError as error:
        raise NotFound(f"{label} has no revision {shown(reference.revision)!r}", "Check --revision") from error
    except errors.RepositoryNotFoundError as error:
        hint = "Check the name; if it is private, set HF_TOKEN or run 'hf auth login'"
        raise NotFound(f"{where} has no repository {label} that you may see", hint) from error
    except errors.HfHubHTTPError as error:
        check_passing(error.response)
        status = error.response.status_code
        kind: type[FreeholdError] = Forbidden if status in (401, 403) else SourceFailed
        raise kind(f"{where} answers {status} about {label}", "Check HF_TOKEN, or try again later") from error
    except errors.OfflineModeIsEnabled as error:
        raise Forbidden(f"offline: {label} was not looked up", "Unset HF_HUB_OFFLINE") from error
    except (errors.HFValidationError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceFailed(f"{where} answers with no description of {label}", "Check HF_ENDPOINT") from error


def _offer(reference: Reference, endpoint: str, info: Any, headers: dict[str, str]) -> Offer:
    label = reference.repo
    if str(info.id).lower() != label.lower():
        raise Conflict(
            f"{label} has moved: {host(endpoint)} answers with {shown(info.id)}",
            f"If you trust that owner: freehold pull hf://{shown(info.id)}",
        )
    commit = str(info.sha)
    if not _COMMIT.fullmatch(commit):
        raise SourceFailed(f"{host(endpoint)} names no commit of {label}", "Check HF_ENDPOINT")
    listed = _listed(info, label)
    pinned = reference.at(commit)
    chosen = _chosen(reference, listed)
    files = tuple(
        Remote(
            filename=NESTED.get(name) or name.rpartition("/")[2],
            url=_address(endpoint, label, commit, name),
            size=listed[name].size,
            digest=listed[name].digest,
            git=listed[name].git,
            headers=headers,
        )
        for name in (*chosen.names, *([chosen.projector] if chosen.projector else []))
    )
    tag = f":{reference.variant}" if reference.variant else ""
    return Offer(
        source=str(
            msgspec.structs.replace(pinned, variant=reference.variant or ("" if reference.file else chosen.quant))
        ),
        title=f"{label}{tag}",
        files=files,
        roles=_roles(chosen),
        licence=_licence(info),
        place=f"{endpoint}/{label.lower()}",
        owner=str(getattr(info, "_id", "")),
        choice=f"{chosen.why}; it sees images with {chosen.projector}" if chosen.projector else chosen.why,
    )


def _roles(chosen: _Choice) -> tuple[Role, ...]:
    seeing: tuple[Role, ...] = ("projector",) if chosen.projector else ()
    return (*_GGUF * len(chosen.names), *seeing) if chosen.gguf else ()


def _address(endpoint: str, label: str, commit: str, name: str) -> str:
    from urllib.parse import quote

    return f"{endpoint}/{label}/resolve/{commit}/{quote(name)}"


def _listed(info: Any, label: str) -> dict[str, _Listed]:
    """The repository's files. Raises SourceFailed for a listing that cannot be right."""
    siblings = info.siblings or []
    if len(siblings) > MAX_FILES:
        raise SourceFailed(f"{label} lists {len(siblings)} files, more than {MAX_FILES}", "Pull a smaller repository")
    found = {}
    for sibling in siblings:
        size, git = sibling.size, str(sibling.blob_id or "")
        if type(size) is not int or not 0 <= size < 1 << 50 or not _inside(str(sibling.rfilename)):
            continue
        digest = _digest(sibling.lfs, label)
        # Of a large file, git's name is that of the pointer which stands for it.
        named = digest is None and bool(_GIT.fullmatch(git))
        found[str(sibling.rfilename)] = _Listed(size, digest, git if named else "")
    return found


def _inside(name: str) -> bool:
    """Whether a file's name stays in its repository, by the rules of POSIX and of Windows."""
    return name.isprintable() and "\\" not in name and not {"", ".", ".."} & set(name.split("/"))


def _digest(lfs: Any, label: str) -> Digest | None:
    if lfs is None:
        return None
    try:
        return Digest.parse(f"sha256:{lfs['sha256'] if isinstance(lfs, dict) else lfs.sha256}")
    except BadName as error:
        raise SourceFailed(f"{label} lists a file with a digest that is none", "Check HF_ENDPOINT") from error


def _chosen(reference: Reference, listed: dict[str, _Listed]) -> _Choice:
    """The files to take, why these, and their type."""
    label = reference.repo
    if reference.file:
        return _one_file(reference, listed)
    found = choosing.models(listed)
    if found or reference.variant:
        model, why = choosing.choose(found, reference.variant, label)
        return _seeing(list(model.files), why, model.quant, listed)
    return _Choice(choosing.folder_files(listed, label), False, "config, tokenizer and safetensors weights")


def _one_file(reference: Reference, listed: dict[str, _Listed]) -> _Choice:
    if not reference.file.lower().endswith(".gguf"):
        raise NotFound(f"{reference.file} is no GGUF file", f"For the whole model: hf://{reference.repo}")
    matching = [model for model in choosing.models(listed) if reference.file in model.files]
    if not matching:
        raise NotFound(f"{reference.repo} has no model file {reference.file}", "Check the file's name")
    return _seeing(list(matching[0].whole().files), "the file was named", matching[0].quant, listed)


def _seeing(names: list[str], why: str, quant: str, listed: Iterable[str]) -> _Choice:
    """These files, and the projector that belongs to them."""
    return _Choice(names, True, why, quant, projectors.chosen(listed, names[0]))


def _licence(info: Any) -> str:
    card = info.card_data
    licence = card.get("license") if card is not None else None
    return licence if isinstance(licence, str) and _LICENCE.fullmatch(licence) else ""
