"""Files of tensors, whose errors are the operating system's as for any other file."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

_REASON = re.compile(r"\(os error (\d+)\)")


def write(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """As safetensors. Raises OSError."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path, metadata=metadata)
    except SafetensorError as error:
        reason = _REASON.search(str(error))
        if reason is None:
            raise
        number = int(reason[1])
        raise OSError(number, os.strerror(number), str(path)) from error
