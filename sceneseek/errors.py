"""Every error a person may meet: what was wrong, where, and what to do.

    SceneseekError
    ├── InvalidRequest       a query, a number or a body that cannot be answered      HTTP 400, exit 2
    │   └── Unprocessable    a request that does not fit the bundle, or itself         HTTP 422
    ├── NotFound             no such image                                            HTTP 404
    │   └── NoSuchImage      no image of the index has this id                        HTTP 404
    ├── Forbidden            a key that may not do this                                HTTP 403
    ├── Conflict             what is sent contradicts what was sent before             HTTP 409
    ├── PreconditionFailed   an image that is not as If-Match or If-None-Match says     HTTP 412
    │   └── PreconditionRequired  an image that nothing may replace without If-Match    HTTP 428
    ├── UploadsUnavailable   pictures that cannot be put or deleted                    HTTP 503
    │   └── NoSpace          no room for more pictures                                 HTTP 507
    ├── FeedbackUnavailable  ratings that cannot be stored                            HTTP 503, exit 1
    ├── SourceError          a folder or file of the user's that cannot be used       exit 1
    ├── ImageError           one picture that cannot be decoded                       HTTP 422
    ├── DataError            captions, splits or ratings that cannot be read          exit 1
    ├── ServiceUnreachable   a service that does not answer, or not in time           exit 1
    ├── ServiceError         a service that failed, or is no service of ours          exit 1
    │   └── KeyRefused       a service that wants a key, and not this one             HTTP 401
    ├── IndexChanged         an index that was replaced between two pages             exit 1
    ├── BundleError          a bundle that is missing, changed or unfit               HTTP 503, exit 1
    ├── IndexUnavailable     an index that is missing, held, away or of another bundle HTTP 503, exit 1
    │   ├── NothingIndexed   an index without images yet; `command` fills it           HTTP 503, exit 1
    │   └── UnfitGeneration  a generation that is damaged, or not what was to be built
    ├── ExportError          a graph that could not be made or differs from its source
    ├── StartError           a service whose address is taken or whose worker died
    ├── MissingExtra         a command whose packages are not installed               exit 1
    ├── RuntimeUnavailable   ONNX Runtime missing, doubled, or without the device asked for
    ├── ClusterError         a Ray cluster that does not answer, or cannot encode     exit 1
    └── TryAgain             a request that may be answered a little later
        ├── Overloaded       more requests than can be answered                       HTTP 429
        ├── SourceAway       an object store of pictures that does not answer         HTTP 503
        ├── DeadlinePassed   a request that would have been answered too late         HTTP 503
        └── WorkerLost       a thread that died; the process is restarted             HTTP 503

An error carries its facts as fields: `what` (one clause, no full stop) and `hint` (what to do). One
handler turns them into problem+json, one into a line on the command line; nothing below prints. Words that may name
files of the machine are for its operator: clients of a service that hides paths get the title in their place,
unless the class says that its words are `for_clients`. What passes by itself has `retry_after`, in seconds.
"""

from __future__ import annotations

from typing import Any, ClassVar


class SceneseekError(Exception):
    """The root of the tree.

    Args:
        what: what was wrong and where, one clause without a full stop.
        hint: what the reader can do about it; empty where nothing helps.
    """

    exit_code: ClassVar[int] = 1
    status: ClassVar[int] = 500
    slug: ClassVar[str] = "error"
    title: ClassVar[str] = "sceneseek failed"
    for_clients: ClassVar[bool] = False
    # The hint for clients that may not see the error's own words.
    hint_for_clients: ClassVar[str] = "the log of the service says why"
    retry_after: float | None = None

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = one_line(what)
        self.hint = one_line(hint)

    def __str__(self) -> str:
        return f"{self.what}: {self.hint}" if self.hint else self.what

    def __reduce__(self) -> tuple[Any, ...]:
        # By its fields, whatever its class is made from: it may go from one process to another.
        return type(self).__new__, (type(self), *self.args), vars(self)


class InvalidRequest(SceneseekError):
    """A request that can never be answered as it stands."""

    exit_code = 2
    status = 400
    slug = "invalid-request"
    title = "The request cannot be answered as it stands"
    for_clients = True


class Unprocessable(InvalidRequest):
    """A request that is well-formed, and does not fit the bundle that answers, or one part of it another."""

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
    """A request contradicts what is there, such as an earlier one of the same key."""

    status = 409
    slug = "conflict"
    title = "The request contradicts what is there"
    for_clients = True


class Forbidden(SceneseekError):
    """A request that this key, or any, may not send to this service."""

    status = 403
    slug = "forbidden"
    title = "This is not allowed"
    for_clients = True


class PreconditionFailed(SceneseekError):
    """An image that is not as the request's If-Match or If-None-Match says."""

    status = 412
    slug = "precondition-failed"
    title = "The image is not as expected"
    for_clients = True


class PreconditionRequired(PreconditionFailed):
    """An image that would be replaced by a request that does not say which one it replaces (RFC 6585)."""

    status = 428
    slug = "precondition-required"
    title = "There is another image"


class UploadsUnavailable(SceneseekError):
    """Pictures cannot be put or deleted: no permission, or the folder is gone."""

    status = 503
    slug = "uploads-unavailable"
    title = "Pictures cannot be put or deleted"


class NoSpace(UploadsUnavailable):
    """There is no room for more pictures."""

    status = 507
    slug = "no-space"
    title = "There is no room for more pictures"
    for_clients = True


class FeedbackUnavailable(SceneseekError):
    """Ratings cannot be stored: no room, no permission, or another process has the file."""

    status = 503
    slug = "feedback-unavailable"
    title = "Feedback cannot be stored"


class SourceError(SceneseekError):
    """A folder or a file of the user's that cannot be used."""

    slug = "source"
    title = "The source cannot be read"


class ImageError(SceneseekError):
    """One picture that cannot be used.

    Args:
        reason: a short stable word for reports and metrics, such as ``truncated``.
        what: what was wrong with it.
    """

    status = 422
    slug = "image"
    title = "The image cannot be used"
    for_clients = True

    def __init__(self, reason: str, what: str, hint: str = "") -> None:
        super().__init__(what, hint)
        self.reason = reason


class DataError(SceneseekError):
    """Captions, a split or ratings that cannot be read."""

    slug = "data"
    title = "The data cannot be read"


class ServiceUnreachable(SceneseekError):
    """A service that does not answer, or not in time."""

    slug = "service-unreachable"
    title = "The service does not answer"


class ServiceError(SceneseekError):
    """A service's answer that says that it failed, or that is none of ours.

    Args:
        what: what was wrong.
        hint: what the reader can do about it.
        http_status: that of the answer.
    """

    slug = "service"
    title = "The service failed"

    def __init__(self, what: str, hint: str = "", http_status: int = 500) -> None:
        super().__init__(what, hint)
        self.http_status = http_status


class KeyRefused(ServiceError):
    """A service that wants a key: there was none, or it is none that is live."""

    status = 401
    slug = "unauthorized"
    title = "A key is needed"


class IndexChanged(SceneseekError):
    """An index that was replaced between two pages of one search, which then do not belong together."""

    slug = "index-changed"
    title = "The index was replaced in the meantime"


class BundleError(SceneseekError):
    """A bundle that is missing, was changed, or does not fit."""

    status = 503
    slug = "bundle"
    title = "The bundle cannot be used"


class IndexUnavailable(SceneseekError):
    """An index that is missing, empty, held by another process, filled by another image graph, or whose server is away.

    Args:
        what: what was wrong.
        hint: what the reader can do about it.
        retry_after: where the server of the index does not answer, seconds after which to ask again.

    Attributes:
        transient: whether it passes without a change of settings, so that a service may start and wait.
    """

    status = 503
    slug = "index-unavailable"
    title = "The index cannot be searched"
    transient: bool = False

    def __init__(self, what: str, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(what, hint)
        self.retry_after = retry_after


class NothingIndexed(IndexUnavailable):
    """An index that has no live generation yet.

    Args:
        index_url: the index.
        hint: what the reader can do about it.
        command: what fills it.
        public_command: the same for those who may not see paths.
    """

    slug = "nothing-indexed"
    title = "Nothing is indexed yet"
    hint_for_clients = "index a folder of pictures with `sceneseek index DIR`, in the Docker stack with `make reindex`"
    transient = True

    def __init__(self, index_url: str, hint: str, command: str, public_command: str) -> None:
        super().__init__(f"nothing is indexed in {index_url}", hint, retry_after=2.0)
        self.command, self.public_command = command, public_command


class UnfitGeneration(IndexUnavailable):
    """A generation that is damaged, or not what was to be built: it lacks images, or its vectors are broken."""

    def __init__(self, what: str, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(what, hint)
        self.retry_after = retry_after


class ExportError(SceneseekError):
    """A graph that could not be made, or that differs from its source model."""

    slug = "export"
    title = "The export failed"


class StartError(SceneseekError):
    """The service could not start: its address is taken or unknown, or its worker died."""

    slug = "start"
    title = "The service cannot start"


class MissingExtra(SceneseekError):
    """A command whose packages are not installed.

    Args:
        command: what was asked for.
        extra: the extra that brings the packages.
        module: the first module that is missing.
        otherwise: what to do without them, where there is something.
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
    """ONNX Runtime is missing, installed twice, or cannot use the device that was asked for."""

    status = 503
    slug = "runtime"
    title = "The inference runtime cannot be used"


class ClusterError(SceneseekError):
    """A Ray cluster that cannot be reached, or a node of it that cannot encode."""

    slug = "cluster"
    title = "The cluster cannot encode"


class TryAgain(SceneseekError):
    """What passes by itself: the same request may be answered a little later.

    Args:
        what: what was wrong.
        hint: what the reader can do about it.
        retry_after: in how many seconds it is worth asking again, at least one.
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
    """More requests are waiting than can be answered in time."""

    status = 429
    slug = "overloaded"
    title = "Too many requests at once"


class DeadlinePassed(TryAgain):
    """A request waited so long that its answer would come too late."""

    slug = "deadline-passed"
    title = "The request took too long"


class SourceAway(TryAgain):
    """The object store that holds a picture does not answer.

    Args:
        why: in words that name neither a key nor a credential.
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
    """The text with control characters and unpaired surrogates escaped, so that it stays one printable line."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode("ascii") for c in text
    )
