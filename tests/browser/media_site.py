"""A third-party site that embeds the like button: another origin than the system's, as a newspaper's is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from urllib.parse import quote, unquote

PAGE = Template((Path(__file__).parent / "embed.html").read_text(encoding="utf-8"))

BUTTONS = Template(
    """<p><dianzan-like campaign="$campaign" candidate="c01" publisher="bjnews"></dianzan-like></p>
    <p><dianzan-like campaign="$campaign" candidate="c02" publisher="bjnews"></dianzan-like></p>"""
)

NORMAL, SANDBOXED = "normal", "sandboxed"
# A sandboxed document has an origin of its own each time, and reading its localStorage raises.
POLICIES = {NORMAL: {}, SANDBOXED: {"content-security-policy": "sandbox allow-scripts"}}


class MediaSite:
    """Where the site is, and the addresses of its articles."""

    def __init__(self, port: int) -> None:
        self.origin = f"http://localhost:{port}"

    def article(self, campaign: str, policy: str = NORMAL, *, buttons: str = "") -> str:
        """An article with the buttons of c01 and c02, or with these."""
        return f"{self.origin}/{policy}/{campaign}" + (f"?{quote(buttons)}" if buttons else "")


@contextmanager
def serve(results_url: str) -> Iterator[MediaSite]:
    """Serve articles at /POLICY/CAMPAIGN until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 2  # a browser's spare connection ends after so many seconds

        def do_GET(self) -> None:
            path, _, own = self.path.partition("?")
            _, policy, campaign = path.split("/")
            buttons = unquote(own) or BUTTONS.substitute(campaign=campaign)
            body = PAGE.substitute(results_url=results_url, buttons=buttons).encode()
            self.send_response(200)
            for name, value in {"content-type": "text/html; charset=utf-8", **POLICIES[policy]}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            """The site keeps no access log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = False  # closing the server then waits for its connections
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="media site")
        thread.start()
        try:
            yield MediaSite(server.server_port)
        finally:
            server.shutdown()
            thread.join()
