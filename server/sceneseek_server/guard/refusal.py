"""What the door says to whom it does not let in. None of it says more than the sender knows already."""

from __future__ import annotations

from sceneseek.errors import SceneseekError


class Unauthorized(SceneseekError):
    """No key, or none that is live; which of the two is not told."""

    status = 401
    slug = "unauthorized"
    title = "A key is needed"
    for_clients = True

    def __init__(self) -> None:
        super().__init__(
            "this needs a key",
            "send it as Authorization: Bearer KEY or as X-API-Key: KEY; in a browser it is the password, of any user",
        )


class CrossSite(SceneseekError):
    """A request that another web site made a browser send."""

    status = 403
    slug = "cross-site"
    title = "Another web site sent this"
    for_clients = True

    def __init__(self) -> None:
        super().__init__(
            "a page of another site sent this request",
            "have the service started with --cors-origin and that page's origin, if it is meant to",
        )


class WrongHost(SceneseekError):
    """A request addressed to a name that is not this service's."""

    status = 421
    slug = "wrong-host"
    title = "Not the name of this service"
    for_clients = True

    def __init__(self) -> None:
        super().__init__(
            "the service is not asked by the name in the Host header",
            "use the address that it printed, or have it started with --allowed-host and that name",
        )


class RateLimited(SceneseekError):
    """More was asked than one sender may.

    Args:
        retry_after: seconds until the next request will be answered.
    """

    status = 429
    slug = "rate-limited"
    title = "Asked too often"
    for_clients = True

    def __init__(self, retry_after: float) -> None:
        super().__init__("more was asked than the rate limit allows", "wait as long as Retry-After says")
        self.retry_after = retry_after
