"""Every error that a user can see, in one tree.

FreeholdError                     exit  status  code
├── BadInput                      2     400     invalid_request_error
│   ├── BadName                   2     400     invalid_name
│   ├── BadData                   2     400     invalid_data
│   ├── BadRecipe                 2     400     invalid_recipe
│   ├── BadModelFile              2     400     invalid_model_file
│   ├── ContextOverflow           2     400     context_length_exceeded
│   ├── TooLarge                  2     413     request_too_large
│   ├── UnknownConversation       2     400     previous_response_not_found
│   ├── UnsupportedMedia          2     415     unsupported_media_type
│   ├── WrongMethod               2     405     method_not_allowed
│   └── Unsupported               2     400     unsupported
├── Unauthorized                  2     401     invalid_api_key
├── Forbidden                     2     403     forbidden
├── NotFound                      2     404     not_found
│   └── UnknownModel              2     404     model_not_found
├── Conflict                      2     409     conflict
├── NoRoom                        2     507     insufficient_storage
│   ├── DiskFull                  2     507     disk_full
│   └── NotEnoughMemory           2     503     insufficient_memory
├── MissingExtra                  2     501     missing_extra
├── NotOffered                    2     501     not_implemented
├── Busy                          2     503     server_busy
│   └── RateLimited               2     429     rate_limit_exceeded
├── SourceFailed                  2     502     source_failed
├── WorkerFailed                  1     502     worker_failed
├── Timeout                       1     504     timeout
├── Damaged                       1     500     damaged
├── GateFailed                    1     409     gate_failed
└── Interrupted                   130   499     interrupted

Each carries a one-line message that names the thing, and a remedy: what to do about it. Foreign errors are
translated where a library is called, never further up.
"""

from typing import ClassVar


class FreeholdError(Exception):
    """An error meant for a person: what is wrong, and what to do about it."""

    exit_code: ClassVar[int] = 1
    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, remedy: str = "", *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.param = param

    def line(self) -> str:
        """The error as one line of text."""
        text = f"{self.message}. {self.remedy}" if self.remedy else self.message
        return " ".join(text.split())


class BadInput(FreeholdError):
    """What the user gave cannot be used."""

    exit_code, status, code = 2, 400, "invalid_request_error"


class BadName(BadInput):
    """A model name or digest that does not parse."""

    code = "invalid_name"


class BadData(BadInput):
    """A data file that cannot be turned into rows of messages."""

    code = "invalid_data"


class BadRecipe(BadInput):
    """A recipe with a wrong key or value."""

    code = "invalid_recipe"


class BadModelFile(BadInput):
    """A model file that is truncated, inconsistent or hostile."""

    code = "invalid_model_file"


class ContextOverflow(BadInput):
    """A prompt that does not fit the model's context."""

    code = "context_length_exceeded"

    def __init__(
        self, message: str, remedy: str = "", *, param: str | None = None, tokens: int = 0, context: int = 0
    ) -> None:
        super().__init__(message, remedy, param=param)
        self.tokens = tokens
        self.context = context


class TooLarge(BadInput):
    """A body or field above its declared maximum."""

    status, code = 413, "request_too_large"


class UnsupportedMedia(BadInput):
    """A body in another form than the route takes."""

    status, code = 415, "unsupported_media_type"


class WrongMethod(BadInput):
    """A route that exists, asked in a way that it does not answer."""

    status, code = 405, "method_not_allowed"


class Unsupported(BadInput):
    """Something well-formed that this version, model or engine cannot do."""

    code = "unsupported"


class Unauthorized(FreeholdError):
    """A request that shows no key, or none that is known."""

    exit_code, status, code = 2, 401, "invalid_api_key"


class Forbidden(FreeholdError):
    """Something that this caller may not do."""

    exit_code, status, code = 2, 403, "forbidden"


class NotFound(FreeholdError):
    """A thing that is not there."""

    exit_code, status, code = 2, 404, "not_found"


class UnknownModel(NotFound):
    """A model name that points to nothing."""

    code = "model_not_found"


class UnknownConversation(BadInput):
    """What a request goes on from is not kept any more, or never was: to OpenAI's clients a wrong field."""

    code = "previous_response_not_found"


class Conflict(FreeholdError):
    """Somebody else holds it: a running recipe, a taken port, an existing name."""

    exit_code, status, code = 2, 409, "conflict"


class NoRoom(FreeholdError):
    """Not enough of something that can be counted."""

    exit_code, status, code = 2, 507, "insufficient_storage"


class DiskFull(NoRoom):
    """The file system has no space left, or takes no file so large."""

    code = "disk_full"


class NotEnoughMemory(NoRoom):
    """The model needs more memory than the machine has free."""

    status, code = 503, "insufficient_memory"


class MissingExtra(FreeholdError):
    """An optional dependency is not installed; the remedy is the command that installs it."""

    exit_code, status, code = 2, 501, "missing_extra"


class NotOffered(FreeholdError):
    """A part of a vendor's API that is not here."""

    exit_code, status, code = 2, 501, "not_implemented"


class Busy(FreeholdError):
    """The server cannot take more work now."""

    exit_code, status, code = 2, 503, "server_busy"

    def __init__(self, message: str, remedy: str = "", *, retry_after: int = 1) -> None:
        super().__init__(message, remedy)
        self.retry_after = retry_after
        """Seconds after which a retry is worthwhile."""


class RateLimited(Busy):
    """This client has too much work waiting."""

    status, code = 429, "rate_limit_exceeded"


class SourceFailed(FreeholdError):
    """A place that models come from cannot be reached, or does not answer as it should."""

    exit_code, status, code = 2, 502, "source_failed"


class WorkerFailed(FreeholdError):
    """An engine worker died or answered nonsense; the request it held is lost."""

    exit_code, status, code = 1, 502, "worker_failed"


class Timeout(FreeholdError):
    """Something did not finish within its deadline."""

    exit_code, status, code = 1, 504, "timeout"


class Damaged(FreeholdError):
    """Stored bytes are not what their digest says."""

    exit_code, status, code = 1, 500, "damaged"


class GateFailed(FreeholdError):
    """A model did not meet the conditions its recipe sets."""

    exit_code, status, code = 1, 409, "gate_failed"


class Interrupted(FreeholdError):
    """The user stopped it; it can be resumed."""

    exit_code, status, code = 130, 499, "interrupted"
