"""Where a service listens: both families of addresses, and the true reason where it cannot."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from dianzan.local import listening


@pytest.mark.parametrize(
    ("host", "written"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("", "127.0.0.1"),
        ("::1", "[::1]"),
        ("::", "[::1]"),
        ("fe80::1%lo", "[fe80::1%lo]"),
        ("localhost", "localhost"),
    ],
)
def test_an_address_is_written_so_that_it_can_be_opened(host: str, written: str) -> None:
    assert listening.in_url(host) == written


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::", "localhost", ""])
def test_a_free_port_has_no_obstacle(host: str) -> None:
    if ":" in host and not Path("/proc/net/if_inet6").read_text():
        pytest.skip("this machine has no IPv6")
    assert listening.obstacle(host, 0, "--vote-port") == ""


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("203.0.113.9", "203.0.113.9 is no address of this machine"),
        ("2001:db8::9", "2001:db8::9 is no address of this machine"),
        ("10.1.2.3.4", "'10.1.2.3.4' is no address"),
        ("no such host", "'no such host' is no address"),
    ],
)
def test_an_address_of_another_machine_is_told_from_a_taken_port(host: str, said: str) -> None:
    assert listening.obstacle(host, 0, "--vote-port").startswith(said)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def test_a_taken_port_is_named_with_its_option(family: socket.AddressFamily) -> None:
    host = "127.0.0.1" if family is socket.AF_INET else "::1"
    with socket.create_server((host, 0), family=family) as taken:
        port = taken.getsockname()[1]
        assert listening.obstacle(host, port, "--vote-port") == (
            f"Port {port} is taken by another program: stop it, or choose another with --vote-port."
        )


@pytest.mark.parametrize(
    ("number", "port", "said"),
    [
        ("EACCES", 80, "Only root may listen on port 80: choose one from 1024 on, such as --vote-port 8080."),
        ("EACCES", 8000, "Nothing can listen on port 8000 of 127.0.0.1 (Permission denied)"),
        ("EAFNOSUPPORT", 8000, "This machine has no addresses like 127.0.0.1"),
        ("ENOBUFS", 8000, "Nothing can listen on port 8000 of 127.0.0.1 (No buffer space available)"),
    ],
)
def test_every_other_obstacle_is_the_true_one(
    monkeypatch: pytest.MonkeyPatch, number: str, port: int, said: str
) -> None:
    code = getattr(__import__("errno"), number)

    class Refusing(socket.socket):
        def bind(self, _address: object) -> None:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(socket, "socket", Refusing)

    assert listening.obstacle("127.0.0.1", port, "--vote-port").startswith(said)


class _Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


@contextmanager
def _serving() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _Ready) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_our_own_machine_is_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv(name, "http://127.0.0.1:9")

    with _serving() as port:
        assert listening.answers_ready("127.0.0.1", port)


def test_a_service_that_is_not_there_is_not_ready() -> None:
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]

    assert not listening.answers_ready("127.0.0.1", port)
