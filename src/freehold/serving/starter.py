"""The starter model: in every store, from the files that ship with Freehold."""

import contextlib
from importlib import resources

from freehold.core.errors import NoRoom
from freehold.core.name import Name
from freehold.store import Store

STARTER = Name.parse("starter")


def ensure_starter(store: Store) -> None:
    """Import the starter model that ships with Freehold, if the catalog lacks it and it ships."""
    if any(store.catalog.bound(STARTER)):
        return
    from freehold.store import importing

    with resources.as_file(resources.files("freehold.assets").joinpath("starter")) as folder:
        if folder.is_dir():
            with contextlib.suppress(NoRoom):  # whoever asks for it is told that it is not there
                importing.import_folder(store, folder, STARTER, licence="Apache-2.0")
