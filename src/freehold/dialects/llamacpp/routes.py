"""llama-server's dialect: beside others, where they have the same path they answer it; and alone, for one model."""

from collections.abc import Mapping

from starlette.responses import Response

from freehold.core.errors import Busy, FreeholdError
from freehold.dialects.llamacpp import answers, generating, telling
from freehold.serving.http import json_response
from freehold.serving.routes import Dialect, Route


def error_response(error: FreeholdError) -> Response:
    """An error in llama-server's shape."""
    headers = {"retry-after": str(error.retry_after)} if isinstance(error, Busy) else None
    return json_response(answers.error_body(error), answers.status(error), headers)


def _never(headers: Mapping[str, str]) -> bool:
    return False


_ROUTES = (*telling.ROUTES, *generating.ROUTES)
ALONE = Dialect(name="llamacpp", mounts=("",), routes=(*_ROUTES, *telling.REFUSED), error=error_response)
"""For a server that stands in for llama-server."""

VERTEX = ALONE._replace(routes=(*ALONE.routes, Route("POST", "/predict", "infer", generating.predict, "any")))
"""The same with the path that Google's Vertex AI calls."""

DIALECT = ALONE._replace(mounts=("", "/llama"), routes=_ROUTES, claims=_never)
