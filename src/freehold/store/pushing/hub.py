"""Push to a repository of the Hugging Face Hub, through its own client: the model's files, its card, its proofs."""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

from freehold.core.errors import BadName, Forbidden, FreeholdError, MissingExtra, NotFound, WorkerFailed
from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.formats.reading import shown
from freehold.store import signatures
from freehold.store.folders import NESTED
from freehold.store.importing import materialise
from freehold.store.store import Store

_PREFIXES = ("https://huggingface.co/", "hf.co/", "hf://", "huggingface://")


class Pushed(NamedTuple):
    """Where the model is now."""

    url: str
    commit: str


def repo_of(text: str) -> str:
    """The `org/repo` that is meant, of the ways to write it. Raises BadName."""
    prefix = next((prefix for prefix in _PREFIXES if text.startswith(prefix)), "")
    name = Name.parse(text.removeprefix(prefix))
    if not name.org or ":" in text.removeprefix(prefix):
        raise BadName(f"not a repository of the Hub: {text[:120]!r}", "As in hf.co/org/repo")
    return f"{name.org}/{name.model}"


def push(store: Store, name: Name, repo: str, settings: Settings, *, card: str, private: bool = False) -> Pushed:
    """Push a model with its card (README.md), its evidence (proofs/) and its signatures in one commit.

    Files that the repository has already are not sent again. Honours HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE. Raises
    UnknownModel, Forbidden (offline, or refused), NotFound, WorkerFailed, MissingExtra and Damaged.
    """
    if settings.offline or os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise Forbidden("nothing is sent to the Hub: Freehold is offline", "Unset FREEHOLD_OFFLINE and HF_HUB_OFFLINE")
    digest = store.resolve(name)
    manifest = store.manifest(digest)
    with store.lease(digest), store.room() as folder:
        materialise(store, manifest, folder)
        _nest(folder)
        (folder / "README.md").unlink(missing_ok=True)  # a copy of the model's own, since it is small
        (folder / "README.md").write_text(card, "utf-8")
        (folder / "freehold-manifest.json").write_bytes(manifest.encode())
        (folder / "proofs").mkdir()
        for evidence in manifest.evidence:
            (folder / "proofs" / f"{evidence.hex[:16]}.json").write_bytes(store.path(evidence).read_bytes())
        for number, signature in enumerate(signatures.read(store.folder, digest)):
            (folder / ("model.sig" if not number else f"model{number}.sig")).write_bytes(signature)
        return _upload(folder, repo, f"Push {name} with Freehold", private)


def _nest(folder: Path) -> None:
    """Copies where other programs look for files that the store, without folders, calls otherwise.

    Under their names in the store they stay too: those are signed.
    """
    for path, called in NESTED.items():
        if (folder / called).exists():
            (folder / path).parent.mkdir()
            shutil.copyfile(folder / called, folder / path)


def _upload(folder: Path, repo: str, message: str, private: bool) -> Pushed:
    try:
        import httpx2
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError as error:
        raise MissingExtra("pushing to the Hub needs huggingface_hub", "pip install huggingface_hub") from error
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="freehold")
    disable_progress_bars()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        done = api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
    except HfHubHTTPError as error:
        raise _refusal(repo, error.response.status_code, str(error)) from error
    except (httpx2.HTTPError, OSError, ValueError, RuntimeError) as error:  # RuntimeError: a file could not be sent
        raise WorkerFailed(f"the Hub cannot be reached: {shown(error)}", "Check HF_ENDPOINT and the network") from error
    return Pushed(str(done.commit_url), str(done.oid))


def _refusal(repo: str, status: int, said: str) -> FreeholdError:
    line = shown(" ".join(said.split()), 200)
    if status in (401, 403):
        return Forbidden(f"the Hub refuses {repo}: {line}", "Set HF_TOKEN to a token that may write there")
    if status == 404:
        return NotFound(f"the Hub has no {repo}, and does not make it: {line}", "Check the name and HF_TOKEN")
    return WorkerFailed(f"the Hub answered {status}: {line}", "Run the same command again")
