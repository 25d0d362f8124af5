"""What a supervisor notes of its processes survives a crash, and a note that did not is no reason to stand still."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dianzan.cli.up import Ports, _services
from dianzan.local.processes import started_at
from dianzan.local.stores import StoreAddresses
from dianzan.local.supervisor import Service, Supervisor
from tests.support.system import free_port

PORTS = Ports(8000, 8001, 8002)
STORES = StoreAddresses("redis://127.0.0.1:1/0", "postgresql://127.0.0.1:1/dianzan")


@pytest.mark.parametrize("left", ["", "[12", "null", "[1]", '{"pid": 1}', '"ab"', "[null, 1.0]"])
def test_a_note_cut_short_by_a_power_cut_is_named_and_removed(tmp_path: Path, left: str) -> None:
    note = tmp_path / "run" / "vote_api.json"
    note.parent.mkdir()
    note.write_text(left)
    supervisor = Supervisor(tmp_path, "127.0.0.1")

    supervisor.stop_leftovers()

    assert not note.exists()
    assert f"{note} cannot be read" in supervisor.notices[0]


def test_a_process_that_has_ended_meanwhile_is_no_leftover(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    started = started_at(ended.pid)
    ended.wait()
    note = tmp_path / "run" / "vote_api.json"
    note.parent.mkdir()
    note.write_text(json.dumps([ended.pid, started]))
    supervisor = Supervisor(tmp_path, "127.0.0.1")

    supervisor.stop_leftovers()

    assert not note.exists()
    assert supervisor.notices == []


def test_a_note_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(_path: Path, _target: Path) -> None:
        raise OSError("power cut")

    monkeypatch.setattr(Path, "replace", cut)
    supervisor = Supervisor(tmp_path, "127.0.0.1")

    with pytest.raises(OSError, match="power cut"):
        supervisor.start(Service("this", 0, "--vote-port", {}))

    assert list((tmp_path / "run").glob("*.json")) == []
    supervisor.stop()


@pytest.mark.parametrize(
    ("host", "vote_url"),
    [
        ("0.0.0.0", ":8000"),
        ("::", ":8000"),
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("10.1.2.3", "http://10.1.2.3:8000"),
    ],
)
def test_a_page_reached_from_anywhere_asks_the_host_it_came_from(
    monkeypatch: pytest.MonkeyPatch, host: str, vote_url: str
) -> None:
    monkeypatch.delenv("DIANZAN_VOTE_URL", raising=False)

    found = {service.module: service.environment for service in _services(STORES, host, PORTS)}

    assert found["results_api"]["DIANZAN_VOTE_URL"] == vote_url


def test_an_address_given_by_the_operator_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIANZAN_VOTE_URL", "https://vote.example")

    assert "https://vote.example" in _services(STORES, "0.0.0.0", PORTS)[2].environment.values()


def test_the_log_of_a_service_that_says_much_is_two_files_of_limited_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dianzan.local.supervisor.LOG_BYTES_MAX", 100_000)
    (tmp_path / "chatty.py").write_text("for n in range(100_000): print(n, flush=n % 100 == 0)\n")
    running = Supervisor(tmp_path, "127.0.0.1")
    running.start(Service("chatty", free_port(), "--port", {"PYTHONPATH": str(tmp_path)}))
    while running.poll() is None:
        pass
    log, older = tmp_path / "logs" / "chatty.log", tmp_path / "logs" / "chatty.log.1"

    assert max(log.stat().st_size, older.stat().st_size) < 300_000  # it wrote 588,890 bytes
    assert (older.read_text() + log.read_text()).endswith("99999\n")
    assert "\0" not in log.read_text() + older.read_text()
