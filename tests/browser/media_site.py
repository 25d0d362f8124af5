"""A third-party site that embeds the like button: another origin than the system's, as a newspaper's is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from urllib.parse import parse_qs, urlencode

PAGE = Template((Path(__file__).parent / "embed.html").read_text(encoding="utf-8"))

BUTTONS = Template(
    """<p><dianzan-like campaign="$campaign" candidate="c01" publisher="bjnews"></dianzan-like></p>
    <p><dianzan-like campaign="$campaign" candidate="c02" publisher="bjnews"></dianzan-like></p>"""
)

SCRIPT = Template('<script src="$results_url/like-button.js" defer></script>')

NORMAL, SANDBOXED = "normal", "sandboxed"
# A sandboxed document has an origin of its own each time, and reading its localStorage raises.
POLICIES = {NORMAL: {}, SANDBOXED: {"content-security-policy": "sandbox allow-scripts"}}


class MediaSite:
    """Where the site is, and the addresses of its articles."""

    def __init__(self, port: int) -> None:
        self.origin = f"http://localhost:{port}"

    def article(self, campaign: str, policy: str = NORMAL, *, buttons: str = "", script: str = "") -> str:
        """An article with the buttons of c01 and c02, or with these, and README's script tag, or another."""
        own = {name: value for name, value in {"buttons": buttons, "script": script}.items() if value}
        return f"{self.origin}/{policy}/{campaign}?{urlencode(own)}"


@contextmanager
def serve(results_url: str) -> Iterator[MediaSite]:
    """Serve articles at /POLICY/CAMPAIGN until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 2  # a browser's spare connection ends after so many seconds

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            _, policy, campaign = path.split("/")
            usual = {
                "buttons": BUTTONS.substitute(campaign=campaign),
                "script": SCRIPT.substitute(results_url=results_url),
            }
            own = {name: values[0] for name, values in parse_qs(query).items()}
            body = PAGE.substitute({**usual, **own}).encode()
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
