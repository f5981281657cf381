"""Images decoded once for all turns that show them."""

import msgspec
import pytest

from freehold.core.errors import BadInput
from freehold.core.request import Message, Request
from freehold.engines.llamacpp.looking import Looking
from freehold.formats.image_decoding import decoded
from tests.pictures import picture, seen
from tests.serving.support import in_loop

RED, BLUE = seen(picture("red", "JPEG")), seen(picture("blue", "WEBP"))


def turns(*images: tuple) -> Request:
    return Request(model="m", messages=tuple(Message("user", "abc", images=each) for each in images))


@in_loop
async def test_each_becomes_a_png_in_its_place():
    placed = msgspec.structs.replace(BLUE, place=2)
    request = turns((RED, placed), (), (RED,))
    found = await Looking().at(request)
    red, blue = decoded([RED, BLUE])
    assert [[image.data for image in message.images] for message in found.messages] == [[red, blue], [], [red]]
    assert [image.media_type for image in found.seen] == ["image/png"] * 3
    assert [image.place for image in found.seen] == [0, 2, 0]
    raw = Request(model="m", prompt="abc", images=(placed,))
    assert (await Looking().at(raw)).images == (found.messages[0].images[1],)
    assert await Looking().at(turns()) == turns()


@in_loop
async def test_what_was_decoded_is_kept_as_long_as_there_is_room():
    red, blue = decoded([RED, BLUE])
    looking = Looking(most=len(red) + len(blue))
    await looking.at(turns((RED,)))
    await looking.at(turns((BLUE,)))
    first, second = (await looking.at(turns((RED, BLUE)))).seen
    assert (await looking.at(turns((RED,)))).seen[0].data is first.data
    coarse = msgspec.structs.replace(seen(picture("lime", size=(2000, 2000))), coarse=True)
    assert (await looking.at(turns((coarse,)))).seen[0].data != (
        await looking.at(turns((msgspec.structs.replace(coarse, coarse=False),)))
    ).seen[0].data
    again = (await looking.at(turns((BLUE,)))).seen[0]
    assert again.data == second.data
    assert again.data is not second.data, "it had made room"


@in_loop
async def test_a_broken_one_is_refused_and_the_next_is_not():
    looking = Looking()
    with pytest.raises(BadInput, match="image 2 of 2"):
        await looking.at(turns((RED, seen(BLUE.data[:60]))))
    assert len((await looking.at(turns((RED, BLUE)))).seen) == 2
