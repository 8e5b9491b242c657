"""The address that the service answers at, taken before anything slow begins."""

from __future__ import annotations

import errno
import socket

from sceneseek.errors import StartError


def listen(host: str, port: int, option: str = "--port") -> socket.socket:
    """A listening TCP socket.

    It is made here rather than by gunicorn, which would try five times in five seconds to get a port that
    another process has.

    Args:
        host: a name or an address, IPv4 or IPv6.
        port: 0 lets the system choose.
        option: what the port is chosen by, for the message of an error.

    Raises:
        StartError: the address is not ours, or the port is taken or reserved.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((str(address[0]), port), family=family, backlog=1024)
    except socket.gaierror as error:
        raise StartError(f"the host {host!r} is unknown ({error.strerror})", "choose another --host") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            what, hint = f"port {port} of {host} is taken", f"stop who has it, or choose another {option}"
        elif error.errno == errno.EADDRNOTAVAIL:
            what, hint = f"this machine has no address {host}", "choose another --host"
        else:
            what, hint = f"port {port} of {host} cannot be opened ({error.strerror})", f"choose another {option}"
        raise StartError(what, hint) from error


def url_of(listener: socket.socket) -> str:
    """The address as one types it into a browser on this machine."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared with, not bound to
        host = "localhost"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
