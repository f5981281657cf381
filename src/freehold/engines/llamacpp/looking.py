"""The images of requests, decoded before the server gets them.

A conversation sends all its images again with each turn, so those of late are kept.
"""

import asyncio
import hashlib
from collections import OrderedDict

import msgspec

from freehold.core.request import Image, Request
from freehold.formats.image_decoding import decoded

KEPT = 32 << 20
"""Bytes of decoded images that one worker's are kept of."""


class Looking:
    """Decodes one request's images at a time: each takes a process and much memory for a moment."""

    def __init__(self, most: int = KEPT) -> None:
        self._most = most
        self._turn = asyncio.Lock()
        self._kept: OrderedDict[bytes, Image] = OrderedDict()
        self._size = 0

    async def at(self, request: Request) -> Request:
        """The request with each image as a plain PNG. Raises BadInput for one that cannot be read."""
        if not request.seen:
            return request
        async with self._turn:
            keys = [hashlib.sha256(image.data).digest() + bytes([image.coarse]) for image in request.seen]
            seen = dict(zip(keys, request.seen, strict=True))
            found = {key: self._kept[key] for key in seen if key in self._kept}
            missing = {key: image for key, image in seen.items() if key not in found}
            if missing:
                files = await asyncio.to_thread(decoded, list(missing.values()))
                for (key, image), file in zip(missing.items(), files, strict=True):
                    found[key] = msgspec.structs.replace(image, data=file, media_type="image/png")
            self._keep(found)
        return _replaced(request, [found[key] for key in keys])

    def _keep(self, found: dict[bytes, Image]) -> None:
        """Keep these as the last that were asked for."""
        for key, image in found.items():
            if self._kept.pop(key, None) is None:
                self._size += len(image.data)
            self._kept[key] = image
        while self._size > self._most:
            self._size -= len(self._kept.popitem(last=False)[1].data)


def _replaced(request: Request, files: list[Image]) -> Request:
    """The request with these in the places of its images, in their order."""
    left = iter(files)

    def changed(images: tuple[Image, ...]) -> tuple[Image, ...]:
        return tuple(msgspec.structs.replace(next(left), place=image.place) for image in images)

    messages = tuple(
        msgspec.structs.replace(message, images=changed(message.images)) if message.images else message
        for message in request.messages
    )
    return msgspec.structs.replace(request, messages=messages, images=changed(request.images))
