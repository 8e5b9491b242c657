"""The exceptions of sceneseek.

    SceneseekError
    ├── InvalidRequest       the request is not valid                                   HTTP 400, exit 2
    │   └── Unprocessable    the request does not fit the bundle, or its parts each other  HTTP 422
    ├── NotFound             the image does not exist                                   HTTP 404
    │   └── NoSuchImage      no image of the index has this id                          HTTP 404
    ├── Forbidden            the key lacks the permission                               HTTP 403
    ├── Conflict             the request contradicts the current state                  HTTP 409
    ├── PreconditionFailed   the image does not match If-Match or If-None-Match         HTTP 412
    │   └── PreconditionRequired  the image can only be replaced with If-Match          HTTP 428
    ├── UploadsUnavailable   pictures cannot be written or deleted                      HTTP 503
    │   └── NoSpace          there is no space for more pictures                        HTTP 507
    ├── FeedbackUnavailable  ratings cannot be stored                                   HTTP 503, exit 1
    ├── SourceError          a folder or file of the user cannot be used                exit 1
    ├── ImageError           a picture cannot be decoded                                HTTP 422
    ├── DataError            captions, a split or ratings cannot be read                exit 1
    ├── ServiceUnreachable   the service does not respond in time                       exit 1
    ├── ServiceError         the service failed, or is not a sceneseek service          exit 1
    │   └── KeyRefused       the API key is missing or not valid                        HTTP 401
    ├── IndexChanged         the index was replaced between two pages of a search       exit 1
    ├── BundleError          the bundle is missing, changed or incompatible             HTTP 503, exit 1
    ├── IndexUnavailable     the index is missing, locked, down or of another bundle    HTTP 503, exit 1
    │   ├── NothingIndexed   the index has no live generation; `command` creates one    HTTP 503, exit 1
    │   └── UnfitGeneration  a generation is damaged, or fails the checks of its build
    ├── ExportError          a graph cannot be exported, or differs from its source
    ├── StartError           the address of the service is in use, or its worker died
    ├── MissingExtra         the packages of a command are not installed                exit 1
    ├── RuntimeUnavailable   ONNX Runtime is missing, installed twice, or lacks the requested device
    ├── ClusterError         a Ray cluster does not respond, or cannot encode           exit 1
    └── TryAgain             a temporary failure: the request may succeed later
        ├── Overloaded       too many requests                                          HTTP 429
        ├── SourceAway       the object store of pictures does not respond              HTTP 503
        ├── DeadlinePassed   the response would be too late                             HTTP 503
        └── WorkerLost       a thread died; the process is restarted                    HTTP 503

An error has the fields `what` (one clause, no full stop) and `hint` (what to do). One handler renders them as
problem+json, another as a line on the command line; no other code prints. Messages may contain paths of the machine, so
if a service hides paths, clients get the title instead, unless the class sets `for_clients`. Temporary failures have
`retry_after`, in seconds.
"""

from __future__ import annotations

from typing import Any, ClassVar


class SceneseekError(Exception):
    """The base class.

    Args:
        what: what was wrong and where, one clause without a full stop.
        hint: what the user can do about it; empty if nothing helps.
    """

    exit_code: ClassVar[int] = 1
    status: ClassVar[int] = 500
    slug: ClassVar[str] = "error"
    title: ClassVar[str] = "sceneseek failed"
    for_clients: ClassVar[bool] = False
    # The hint for clients that may not see the message.
    hint_for_clients: ClassVar[str] = "the log of the service says why"
    retry_after: float | None = None

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = one_line(what)
        self.hint = one_line(hint)

    def __str__(self) -> str:
        return f"{self.what}: {self.hint}" if self.hint else self.what

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled by its fields, as subclasses have other arguments: errors are sent between processes.
        return type(self).__new__, (type(self), *self.args), vars(self)


class InvalidRequest(SceneseekError):
    """The request is not valid; a retry would fail too."""

    exit_code = 2
    status = 400
    slug = "invalid-request"
    title = "The request cannot be answered as it stands"
    for_clients = True


class Unprocessable(InvalidRequest):
    """The request is well-formed, but does not fit the bundle, or its parts do not fit each other."""

    status = 422
    slug = "unprocessable"
    title = "The request does not fit"


class NotFound(SceneseekError):
    """Something named in a request does not exist."""

    status = 404
    slug = "not-found"
    title = "Not found"
    for_clients = True


class NoSuchImage(NotFound):
    """No image of the live generation has this id.

    Args:
        image_id: the id.
    """

    def __init__(self, image_id: object) -> None:
        super().__init__(f"no image has the id {image_id}", "search again: it may have left the index")


class Conflict(SceneseekError):
    """The request contradicts the current state, such as an earlier request with the same key."""

    status = 409
    slug = "conflict"
    title = "The request contradicts what is there"
    for_clients = True


class Forbidden(SceneseekError):
    """This key, or any key, lacks the permission for the request."""

    status = 403
    slug = "forbidden"
    title = "This is not allowed"
    for_clients = True


class PreconditionFailed(SceneseekError):
    """The image does not match the If-Match or If-None-Match of the request."""

    status = 412
    slug = "precondition-failed"
    title = "The image is not as expected"
    for_clients = True


class PreconditionRequired(PreconditionFailed):
    """The request would replace an image, and has no If-Match (RFC 6585)."""

    status = 428
    slug = "precondition-required"
    title = "There is another image"


class UploadsUnavailable(SceneseekError):
    """Pictures cannot be written or deleted: no permission, or the folder does not exist any more."""

    status = 503
    slug = "uploads-unavailable"
    title = "Pictures cannot be put or deleted"


class NoSpace(UploadsUnavailable):
    """There is no space for more pictures."""

    status = 507
    slug = "no-space"
    title = "There is no room for more pictures"
    for_clients = True


class FeedbackUnavailable(SceneseekError):
    """Ratings cannot be stored: no space, no permission, or another process has locked the file."""

    status = 503
    slug = "feedback-unavailable"
    title = "Feedback cannot be stored"


class SourceError(SceneseekError):
    """A folder or a file of the user cannot be used."""

    slug = "source"
    title = "The source cannot be read"


class ImageError(SceneseekError):
    """A picture cannot be used.

    Args:
        reason: a short stable identifier for reports and metrics, such as ``truncated``.
        what: see `SceneseekError`.
        hint: see `SceneseekError`.
    """

    status = 422
    slug = "image"
    title = "The image cannot be used"
    for_clients = True

    def __init__(self, reason: str, what: str, hint: str = "") -> None:
        super().__init__(what, hint)
        self.reason = reason


class DataError(SceneseekError):
    """Captions, a split or ratings cannot be read."""

    slug = "data"
    title = "The data cannot be read"


class ServiceUnreachable(SceneseekError):
    """The service does not respond in time."""

    slug = "service-unreachable"
    title = "The service does not answer"


class ServiceError(SceneseekError):
    """The service reports a failure, or its response is not that of a sceneseek service.

    Args:
        what: see `SceneseekError`.
        hint: see `SceneseekError`.
        http_status: of the response.
    """

    slug = "service"
    title = "The service failed"

    def __init__(self, what: str, hint: str = "", http_status: int = 500) -> None:
        super().__init__(what, hint)
        self.http_status = http_status


class KeyRefused(ServiceError):
    """The service requires an API key, which is missing or not valid."""

    status = 401
    slug = "unauthorized"
    title = "API key required"


class IndexChanged(SceneseekError):
    """The index was replaced between two pages of a search, so they are not consistent."""

    slug = "index-changed"
    title = "The index was replaced in the meantime"


class BundleError(SceneseekError):
    """The bundle is missing, was changed, or is incompatible."""

    status = 503
    slug = "bundle"
    title = "The bundle cannot be used"


class IndexUnavailable(SceneseekError):
    """The index is missing, empty, locked by another process, filled by another image graph, or its server is down.

    Args:
        what: see `SceneseekError`.
        hint: see `SceneseekError`.
        retry_after: seconds after which to retry, if the server of the index does not respond.

    Attributes:
        transient: whether the failure may end without a change of settings, so that a service may start and wait.
    """

    status = 503
    slug = "index-unavailable"
    title = "The index cannot be searched"
    transient: bool = False

    def __init__(self, what: str, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(what, hint)
        self.retry_after = retry_after


class NothingIndexed(IndexUnavailable):
    """The index has no live generation yet.

    Args:
        index_url: the index.
        hint: see `SceneseekError`.
        command: the command that creates one.
        public_command: the same command without paths.
    """

    slug = "nothing-indexed"
    title = "Nothing is indexed yet"
    hint_for_clients = "index a folder of pictures with `sceneseek index DIR`, in the Docker stack with `make reindex`"
    transient = True

    def __init__(self, index_url: str, hint: str, command: str, public_command: str) -> None:
        super().__init__(f"nothing is indexed in {index_url}", hint, retry_after=2.0)
        self.command, self.public_command = command, public_command


class UnfitGeneration(IndexUnavailable):
    """A generation is damaged or fails the checks of its build: it lacks images, or has corrupt vectors."""

    def __init__(self, what: str, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(what, hint)
        self.retry_after = retry_after


class ExportError(SceneseekError):
    """A graph cannot be exported, or differs from its source model."""

    slug = "export"
    title = "The export failed"


class StartError(SceneseekError):
    """The service cannot start: its address is in use or unknown, or its worker died."""

    slug = "start"
    title = "The service cannot start"


class MissingExtra(SceneseekError):
    """The packages of a command are not installed.

    Args:
        command: the command.
        extra: the extra that installs the packages.
        module: the first missing module.
        otherwise: an alternative without the packages; empty if there is none.
    """

    slug = "missing-extra"
    title = "Packages are missing"

    def __init__(self, command: str, extra: str, module: str, otherwise: str = "") -> None:
        super().__init__(
            f"the command `{command}` needs packages that are not installed ({module})",
            f"pip install 'sceneseek[{extra}]'" + (f", or {otherwise}" if otherwise else ""),
        )
        self.command = command


class RuntimeUnavailable(SceneseekError):
    """ONNX Runtime is missing, installed twice, or cannot use the requested device."""

    status = 503
    slug = "runtime"
    title = "The inference runtime cannot be used"


class ClusterError(SceneseekError):
    """A Ray cluster cannot be reached, or one of its nodes cannot encode."""

    slug = "cluster"
    title = "The cluster cannot encode"


class TryAgain(SceneseekError):
    """A temporary failure: the same request may succeed later.

    Args:
        what: see `SceneseekError`.
        hint: see `SceneseekError`.
        retry_after: seconds after which to retry, at least one.
    """

    status = 503
    slug = "try-again"
    title = "The request cannot be answered now"
    for_clients = True
    retry_after: float

    def __init__(self, what: str, hint: str = "", retry_after: float = 1.0) -> None:
        super().__init__(what, hint)
        self.retry_after = max(1.0, retry_after)


class Overloaded(TryAgain):
    """More requests are waiting than can be handled in time."""

    status = 429
    slug = "overloaded"
    title = "Too many requests at once"


class DeadlinePassed(TryAgain):
    """A request waited so long that its response would be too late."""

    slug = "deadline-passed"
    title = "The request took too long"


class SourceAway(TryAgain):
    """The object store of a picture does not respond.

    Args:
        why: the reason, without credentials.
    """

    slug = "source-away"
    title = "The picture cannot be read now"

    def __init__(self, why: str) -> None:
        super().__init__(f"the picture cannot be read now ({why})", "try again a little later", retry_after=5.0)
        self.why = why


class WorkerLost(TryAgain):
    """The thread that ran the request died; the service restarts its worker process."""

    slug = "worker-lost"
    title = "The request was lost"


def one_line(text: str) -> str:
    """Escape control characters and unpaired surrogates, so that the text is one printable line."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode("ascii") for c in text
    )
