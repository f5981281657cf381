"""What OpenAI's clients send for batches, uploads and moderations.

https://platform.openai.com/docs/api-reference/batch
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Label = Annotated[str, Meta(max_length=256)]
Text = Annotated[str, Meta(max_length=1 << 20)]
Pairs = Annotated[dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)]


class ExpiresAfter(msgspec.Struct, forbid_unknown_fields=True):
    """For how long what a batch writes is kept."""

    seconds: Annotated[int, Meta(ge=3600, le=2592000)]
    anchor: Literal["created_at"] = "created_at"


class BatchRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/batches. Windows other than OpenAI's 24h are taken too: minutes, hours or days."""

    input_file_id: Label
    endpoint: Label
    completion_window: Annotated[str, Meta(pattern="^[1-9][0-9]{0,2}[mhd]$")]
    metadata: Pairs | None = None
    output_expires_after: ExpiresAfter | None = None


class UploadRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/uploads."""

    bytes: Annotated[int, Meta(ge=0, le=1 << 50)]
    filename: Annotated[str, Meta(min_length=1, max_length=1024)]
    mime_type: Annotated[str, Meta(max_length=256)]
    purpose: Label
    expires_after: ExpiresAfter | None = None


class CompleteRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/uploads/{id}/complete."""

    part_ids: Annotated[list[Label], Meta(max_length=1000)]
    md5: Annotated[str, Meta(pattern="^[0-9a-fA-F]{32}$")] | None = None


class Row(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A line of a batch's input."""

    custom_id: Annotated[str, Meta(min_length=1, max_length=512)]
    method: Literal["POST"]
    url: Label
    body: dict[str, Any]


class ImageUrl(msgspec.Struct):
    """Where an image is."""

    url: Annotated[str, Meta(max_length=32 << 20)]


class InputPart(msgspec.Struct):
    """A text or an image to judge; only text is."""

    type: Label
    text: Text | None = None
    image_url: ImageUrl | None = None


class ModerationRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/moderations."""

    input: Text | Annotated[list[Text | InputPart], Meta(max_length=2048)]
    model: Label | None = None
