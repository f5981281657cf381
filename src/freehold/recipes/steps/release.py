"""release: the names point to the new model, with its lineage and evidence."""

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from freehold.core.digest import Digest
from freehold.core.errors import Forbidden, UnknownModel
from freehold.core.manifest import Lineage, Manifest, Part
from freehold.core.name import Name
from freehold.core.paths import expanded
from freehold.recipes.names import ADAPTER_ALONE, UNQUANTISED, variant
from freehold.recipes.schema import RecipeFile
from freehold.recipes.steps.base import manifest_of
from freehold.recipes.steps.choose import SWEEP
from freehold.recipes.steps.compare import AGREEMENT
from freehold.recipes.steps.convert import ADAPTER, MODEL
from freehold.recipes.steps.data import HELD_OUT, TRAIN
from freehold.recipes.steps.data import REPORT as REPORT_OF_DATA
from freehold.recipes.steps.evaluate import REPORT
from freehold.recipes.steps.gate import VERDICT
from freehold.recipes.task import Output, Result, Step, Task, Work
from freehold.store import Store, signatures
from freehold.store.folders import inspect

if TYPE_CHECKING:
    from freehold.proofs.sign.keys import PrivateKey

_NAME = "name:"
_KEPT = ("gguf", "chat_template", "parameters", "licence")
"""Parts of a base that its tuned model keeps. Its system message and turns are none: it was not tuned behind them."""


def tasks(file: RecipeFile, store: Store) -> Iterable[Task]:
    """One task, past the gate."""
    recipe = file.recipe
    kinds = recipe.quantize.types
    needs = ["data", "tune", "convert tuned", "gate", *(f"quantize {kind}" for kind in kinds)]
    needs += ["evaluate tuned", *(f"evaluate {kind}" for kind in kinds)]
    needs += [] if recipe.tune.method == "scratch" else ["base", "evaluate base"]
    needs += ["compare tuned"] if recipe.compares else []
    needs += ["merge"] if recipe.tune.adapts and not file.adapted else []
    parameters = {
        "name": str(recipe.name),
        "tags": list(recipe.release.tags),
        "released": recipe.released_type,
        "keep": recipe.quantize.keep,
        "licence": recipe.model.licence,
        "recipe": file.digest.text,
    }
    yield Task("release", "release", tuple(needs), parameters)


def run(work: Work) -> Result:
    """Manifests, and the names that point to them; the model's own name comes last."""
    lineage, evidence = _lineage(work), _evidence(work)
    key, bound = _signing_key(work), []
    for name, manifest in reversed(list(_manifests(work, lineage, evidence))):
        if key is not None:
            _sign(work.store, name, manifest, key)
        digest = work.store.put(name, manifest)
        bound.append(Output(_NAME + str(name), digest, len(manifest.encode())))
    return Result(files=tuple(reversed(bound)))


def _signing_key(work: Work) -> "PrivateKey | None":
    """The key that signs what is released. Raises Forbidden when the policy asks for one and none will do."""
    settings = work.settings
    if not settings.signing_key:
        if settings.require_signature:
            raise Forbidden("a release needs a signature here, and there is no key", "Set signing_key to its file")
        return None
    from freehold.proofs.sign import keys, trust

    key = keys.private(expanded(settings.signing_key), os.environ.get("FREEHOLD_KEY_PASSPHRASE", ""))
    trusted = [public.hint for public in trust.for_name(settings, work.recipe.name)]
    if settings.require_signature and key.public.hint not in trusted:
        where = work.recipe.name.org or trust.PLAIN
        raise Forbidden(
            f"{settings.signing_key} is not trusted to sign {work.recipe.name}",
            f"freehold trust add {settings.signing_key}.pub --for {where}",
        )
    return key


def _sign(store: Store, name: Name, manifest: Manifest, key: "PrivateKey") -> None:
    """Before the name points to it: a name never stands for a model whose signature is still to come."""
    from freehold.proofs.sign import models

    signatures.add(store.folder, manifest.digest, [models.signature_of(name, manifest, key)])


def holds(store: Store, result: Result) -> bool:
    """Whether every name still points to what was released."""
    try:
        return all(store.resolve(name) == digest for name, digest in released(result))
    except UnknownModel:
        return False


def released(result: Result) -> list[tuple[Name, Digest]]:
    """Names and manifests of a release, the model's own name first."""
    return [(Name.parse(output.name.removeprefix(_NAME)), output.digest) for output in result.files]


def _manifests(work: Work, lineage: Lineage, evidence: tuple[Digest, ...]) -> Iterator[tuple[Name, Manifest]]:
    recipe, name = work.recipe, work.recipe.name
    adapted = work.file.adapted
    chosen = _adapted(work, lineage, evidence) if adapted else _gguf(work, recipe.released_type, lineage, evidence)
    yield name, chosen
    for tag in recipe.release.tags:
        yield Name(name.org, name.model, tag), chosen
    if recipe.quantize.keep and adapted:
        yield variant(name, ADAPTER_ALONE), _folder(work, "tune", "adapter", lineage, evidence)
    elif recipe.quantize.keep:
        for kind in recipe.quantize.types:
            if kind != recipe.released_type:
                yield variant(name, kind.lower()), _gguf(work, kind, lineage, evidence)
        task = "merge" if "merge" in work.inputs else "tune"
        yield variant(name, UNQUANTISED), _folder(work, task, "model", lineage, evidence)


def _gguf(work: Work, kind: str, lineage: Lineage, evidence: tuple[Digest, ...]) -> Manifest:
    from freehold.formats.gguf import read_header

    file = work.inputs[f"quantize {kind}" if kind else "convert tuned"].file(MODEL)
    details = read_header(work.store.path(file.digest)).details()
    part = Part("gguf", file.digest, file.size, f"{work.recipe.name.model}.{details.quantization or kind}.gguf")
    return Manifest(
        parts=(part, _recipe_part(work)),
        details=details,
        lineage=lineage,
        evidence=evidence,
        licence=work.recipe.model.licence,
    )


def _adapted(work: Work, lineage: Lineage, evidence: tuple[Digest, ...]) -> Manifest:
    """The base as it was, and the adapter beside it: what a Modelfile with ADAPTER makes."""
    base = manifest_of(work)
    adapter = work.inputs["convert tuned"].file(ADAPTER)
    parts = tuple(part for part in base.parts if part.role in _KEPT)
    filename = f"{work.recipe.name.model}.{ADAPTER}"
    while filename in {part.filename for part in parts}:
        filename = f"tuned-{filename}"
    return Manifest(
        parts=(*parts, Part("adapter", adapter.digest, adapter.size, filename), _recipe_part(work)),
        details=base.details,
        lineage=lineage,
        evidence=evidence,
        licence=work.recipe.model.licence,
    )


def _folder(work: Work, task: str, prefix: str, lineage: Lineage, evidence: tuple[Digest, ...]) -> Manifest:
    """A folder that a task made: a model's weights, or an adapter as PEFT reads it."""
    inspected = inspect(work.unpack(task, prefix))
    outputs = {output.name: output for output in work.inputs[task].files}
    parts = tuple(
        Part(role, outputs[f"{prefix}/{filename}"].digest, outputs[f"{prefix}/{filename}"].size, filename)
        for role, filename, _ in inspected.members
    )
    return Manifest(
        parts=(*parts, _recipe_part(work)),
        details=inspected.details,
        lineage=lineage,
        evidence=evidence,
        licence=work.recipe.model.licence,
    )


def _recipe_part(work: Work) -> Part:
    source = work.file.source
    return Part("recipe", work.store.add_bytes(source), len(source), "recipe.toml")


def _lineage(work: Work) -> Lineage:
    base = work.inputs["base"].file("manifest.json").digest if "base" in work.inputs else None
    sides = tuple(work.inputs["data"].file(name).digest for name in (TRAIN, HELD_OUT))
    return Lineage(base=base, recipe=work.file.digest, data=sides)


def _evidence(work: Work) -> tuple[Digest, ...]:
    reports = [work.inputs[task].file(REPORT).digest for task in work.inputs if task.startswith("evaluate ")]
    data, training = work.inputs["data"].file(REPORT_OF_DATA).digest, work.inputs["tune"].file("training.json").digest
    sweep = [work.inputs["tune"].file(SWEEP).digest] if work.inputs["tune"].has(SWEEP) else []
    compared = [work.inputs["compare tuned"].file(AGREEMENT).digest] if "compare tuned" in work.inputs else []
    return (data, training, *sweep, *reports, *compared, work.inputs["gate"].file(VERDICT).digest)


STEP = Step("release", tasks, run, holds=holds)
