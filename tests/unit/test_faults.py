"""Fault points: nothing happens unless a test has armed them, and then the process is killed where it says."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dianzan.process import faults
from dianzan.process.faults import POINTS, FaultRaised, FaultsError

SERVICES = Path(faults.__file__).parents[2]


def ended(spec: str, hits: list[str]) -> int:
    """The exit code of a process that arms the points and passes some."""
    passed = "".join(f"faults.hit({point!r}); " for point in hits)
    program = f"from dianzan.process import faults; faults.arm({spec!r}); {passed}"
    return subprocess.run([sys.executable, "-c", program], timeout=20, check=False).returncode


def test_a_point_that_is_not_armed_does_nothing() -> None:
    assert ended("", ["flush.before_commit"]) == 0
    assert ended("flush.after_commit:kill", ["flush.before_commit"]) == 0


def test_an_armed_point_kills_the_process_at_its_nth_hit() -> None:
    assert ended("flush.before_commit:kill", ["flush.before_commit"]) == -signal.SIGKILL
    assert ended("flush.before_commit:kill@3", ["flush.before_commit"] * 2) == 0
    assert ended("seal.drained:kill, flush.before_commit:kill@3", ["flush.before_commit"] * 3) == -signal.SIGKILL


def test_a_point_armed_with_raise_raises_once_at_its_nth_hit() -> None:
    faults.arm("flush.before_commit:raise@2")
    faults.hit("flush.before_commit")
    with pytest.raises(FaultRaised):
        faults.hit("flush.before_commit")
    faults.hit("flush.before_commit")


@pytest.mark.parametrize(
    "wrong", ["nowhere:kill", "nowhere:raise", "flush.before_commit", "flush.before_commit:kill@0", "a:b:c"]
)
def test_what_names_no_point_is_refused_with_the_points_there_are(wrong: str) -> None:
    with pytest.raises(FaultsError, match=r"seal\.drained"):
        faults.arm(wrong)


def test_every_point_stands_in_the_code_once() -> None:
    found = [
        point
        for path in SERVICES.rglob("*.py")
        for point in re.findall(r'faults\.hit\("([^"]+)"\)', path.read_text(encoding="utf-8"))
    ]
    assert sorted(found) == sorted(POINTS)
