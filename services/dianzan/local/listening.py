"""Where a service of this machine listens: how its address is written and asked, and why it cannot be had."""

from __future__ import annotations

import errno
import socket
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import Final

EVERYWHERE: Final = ("0.0.0.0", "::", "")  # every address of this machine
_PRIVILEGED: Final = 1024
_ANSWER_S_MAX: Final = 2.0
# The shell's http_proxy, which offices set for pip, is not asked about our own machine.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def in_url(host: str) -> str:
    """How a host is written in an address that this machine can open."""
    asked = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{asked}]" if ":" in asked else asked


def answers_ready(host: str, port: int) -> bool:
    """Whether a service answers /readyz with 200."""
    try:
        with _direct.open(f"http://{in_url(host)}:{port}/readyz", timeout=_ANSWER_S_MAX) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except (urllib.error.URLError, OSError):
        return False


def obstacle(host: str, port: int, option: str) -> str:
    """Why nothing can listen there, and what to do, in one sentence; empty if it can. `option` names the port."""
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a closed connection's rest is no listener
            probe.bind(address)
    except socket.gaierror:
        return f"{host!r} is no address: write --host 127.0.0.1, or --host 0.0.0.0 for every address of this machine."
    except OSError as error:
        return _sentence(error, host, port, option)
    return ""


def _sentence(error: OSError, host: str, port: int, option: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} is taken by another program: stop it, or choose another with {option}."
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"{host} is no address of this machine (a cloud's public address is the provider's): "
            "write --host 0.0.0.0 for every address that it has."
        )
    if error.errno == errno.EACCES and port < _PRIVILEGED:
        return f"Only root may listen on port {port}: choose one from {_PRIVILEGED} on, such as {option} {port + 8000}."
    if error.errno == errno.EAFNOSUPPORT:
        return f"This machine has no addresses like {host}: write --host 127.0.0.1, or --host 0.0.0.0."
    return f"Nothing can listen on port {port} of {host} ({error.strerror}): choose another with {option} or --host."
