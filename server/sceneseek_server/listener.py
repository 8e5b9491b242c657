"""Listening sockets of the service: a TCP port, or a Unix socket.

The master opens them before gunicorn starts, so that a port in use fails at once; gunicorn would retry five times.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import stat
from pathlib import Path

from sceneseek.errors import StartError

UNIX = "unix:"

_BACKLOG = 1_024
_ANY = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to


def listen(host: str, port: int, option: str = "--port") -> socket.socket:
    """Open a listening socket.

    Args:
        host: a name or an address, IPv6 also in brackets; ``::`` is every address of this machine, including IPv4; or
            ``unix:PATH``, where the permissions of the directory control access.
        port: the port; 0 chooses a free one. Ignored with ``unix:``.
        option: the option of the port, for hints.

    Raises:
        StartError: this machine does not have the address, or the port or the file is taken or cannot be opened.
    """
    if host.startswith(UNIX):
        return _unix(Path(host.removeprefix(UNIX)).expanduser())
    bare = host.removeprefix("[").removesuffix("]")
    try:
        addresses = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM)
        # IPv4 if a name has both, such as localhost: health checks and proxies use 127.0.0.1.
        family, *_, address = min(addresses, key=lambda each: each[0] != socket.AF_INET)
        both = bare == "::" and socket.has_dualstack_ipv6()
        return socket.create_server((str(address[0]), port), family=family, backlog=_BACKLOG, dualstack_ipv6=both)
    except (socket.gaierror, UnicodeError) as error:
        raise StartError(f"the host {host!r} is unknown ({error})", "choose another --host") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            what, hint = f"port {port} of {host} is taken", f"stop the program that uses it, or choose another {option}"
        elif error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            what, hint = f"this machine has no address {host}", "choose another --host"
        else:
            what, hint = f"port {port} of {host} cannot be opened ({error.strerror})", f"choose another {option}"
        raise StartError(what, hint) from error


def url_of(listener: socket.socket) -> str:
    """The URL for a browser on this machine; ``unix:PATH`` for a Unix socket."""
    name = listener.getsockname()
    if isinstance(name, str):
        return UNIX + name
    host, port = name[:2]
    if host in _ANY:
        host = "localhost"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _unix(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_stale(path):
            path.unlink()
        listener.bind(str(path))
        # The permissions of the directory control access.
        path.chmod(0o666)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        reason = "taken" if error.errno == errno.EADDRINUSE else error.strerror or error
        raise StartError(
            f"the socket {path} cannot be opened ({reason})", f"choose another --host {UNIX}PATH"
        ) from error
    return listener


def _is_stale(path: Path) -> bool:
    """Whether the file is a socket without a listener, as left by a killed service."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.stat().st_mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                return client.connect_ex(str(path)) == errno.ECONNREFUSED
    return False
