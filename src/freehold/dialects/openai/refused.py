"""The parts of OpenAI's API that are not here, each with one clear word instead of a path that nobody knows."""

from typing import Literal, NamedTuple

from starlette.responses import Response

from freehold.core.errors import NotFound, NotOffered
from freehold.serving.desk import Desk
from freehold.serving.http import drained
from freehold.serving.routes import Incoming, Route


class Absent(NamedTuple):
    """A part of the API, by the paths below which it is, and what to do instead."""

    what: str
    paths: tuple[str, ...]
    instead: str = "See docs/serving.md for what is"


_CHAT = "Keep the conversation yourself and send it to /v1/chat/completions"
_OWN = "This server is your own: it has no organisation to administer"
TABLE = (
    Absent("speech to text", ("/audio/transcriptions", "/audio/translations"), "Send text"),
    Absent("text to speech", ("/audio/speech", "/audio/voices", "/audio/voice_consents"), "Text is answered in text"),
    Absent("images", ("/images",), "Only text is answered"),
    Absent("videos", ("/videos",), "Only text is answered"),
    Absent("the realtime API", ("/realtime",), "Stream from /v1/chat/completions"),
    Absent("assistants", ("/assistants",), _CHAT),
    Absent("threads", ("/threads",), _CHAT),
    Absent("ChatKit", ("/chatkit",), _CHAT),
    Absent("vector stores", ("/vector_stores",), "Keep vectors of /v1/embeddings yourself"),
    Absent("containers", ("/containers",), "Run code yourself"),
    Absent("skills", ("/skills",), "Send tools of your own"),
    Absent("evaluations", ("/evals",), "freehold make measures what it tunes"),
    Absent("graders", ("/fine_tuning/alpha",), "freehold make measures what it tunes"),
    Absent("permissions on checkpoints", ("/fine_tuning/checkpoints",), "This server is your own"),
    Absent("the administration of an organisation", ("/organization", "/projects"), _OWN),
)


_METHODS: tuple[Literal["GET", "POST", "DELETE"], ...] = ("GET", "POST", "DELETE")


def _route(absent: Absent, method: Literal["GET", "POST", "DELETE"], path: str) -> Route:
    async def refuse(incoming: Incoming, desk: Desk) -> Response:
        await drained(incoming.chunks(), desk.settings.max_body)
        if incoming.path["rest"][:1] not in ("", "/"):
            raise NotFound("there is no such route", "See the documentation of the API")
        raise NotOffered(f"this server does not offer {absent.what}", absent.instead)

    return Route(method, path + "{rest:path}", "read", refuse, "chunks")


ROUTES = tuple(_route(absent, method, path) for absent in TABLE for path in absent.paths for method in _METHODS)
