"""Which code a step's result depends on, as a digest."""

from functools import cache
from importlib import metadata, resources
from importlib.resources.abc import Traversable

from freehold.core.digest import Digest
from freehold.recipes.task import Step


def version_of(step: Step) -> Digest:
    """Changes when the step's file, one of its rooms or one of its packages does."""
    return Digest.of_json(
        {
            "step": Digest.of_bytes(
                resources.files(f"{__package__}.steps").joinpath(f"{step.name}.py").read_bytes()
            ).text,
            "rooms": {room: _room(room).text for room in step.rooms},
            "packages": {package: installed(package) for package in step.packages},
        }
    )


@cache
def _room(room: str) -> Digest:
    return Digest.of_json(_sources(resources.files("freehold").joinpath(room), ""))


def _sources(folder: Traversable, prefix: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            found |= _sources(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".py"):
            found[prefix + entry.name] = Digest.of_bytes(entry.read_bytes()).text
    return found


@cache
def installed(package: str) -> str:
    """The version of a package that is installed, or that there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
