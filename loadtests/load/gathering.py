"""Gathers the evidence after a run: asks again what is open, waits for the ledger, counts everywhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import httpx

from loadtests.load import system
from loadtests.load.journal import Story, Target
from loadtests.load.verdict import Evidence

ASK_AGAIN_S_MAX = 60.0
PUBLISHED_S_MAX = 10.0  # promised within 2 s; what differs after this is a difference
ANSWER_S_MAX = 10.0


def gather(story: Story, drain_s_max: float) -> Evidence:
    """Everything the verdict needs. Where the ledger does not catch up in time the counts are taken as they are."""
    lost = _likes_of(story, story.lost) | _likes_of(story, story.open)
    unresolved = _likes_of(story, _settle(story))
    counted = system.until(lambda: system.recount(story.target), lambda found: found.waiting == 0, drain_s_max)
    # What is published is what the counts say; should the ledger hold something else, that is another difference.
    wanted = counted.likes["counts"] - story.baseline.totals["counts"]
    by_candidate, total = system.until(
        lambda: system.published(story.target),
        lambda found: found[1] - story.baseline.published_sum == wanted,
        PUBLISHED_S_MAX,
    )
    return Evidence(
        quota=story.target.quota,
        answers=story.answers,
        lost=frozenset(lost),
        unresolved=sorted(unresolved),
        refused=story.refused,
        totals=_since(counted.likes, story.baseline.totals),
        record=system.public_record(story.target) - Counter(story.baseline.record),
        published=_since(by_candidate, story.baseline.published),
        published_sum=total - story.baseline.published_sum,
        falls=story.falls,
        recount_differences=counted.differences,
    )


def _settle(story: Story) -> list[int]:
    """Ask every open ballot again, the same request, until answered or out of time; returns what stays open."""
    deadline = time.monotonic() + ASK_AGAIN_S_MAX
    while story.open and time.monotonic() < deadline:
        for number in story.open:
            token, candidates = story.ballots[number]
            status, body = _ask(story.target, token, candidates)
            if status == 200:
                results = [(r["candidate"], r["status"], r.get("receipt")) for r in body["results"]]
                story.answered(number, body["resets_at"], results)
            elif status not in (0, 503):
                story.take(["refused", number, status])
        if story.open:
            time.sleep(1)
    return story.open


def _ask(target: Target, token: str, candidates: tuple[str, ...]) -> tuple[int, Any]:
    """HTTP status and body of one like request; status 0 if no answer came."""
    url, headers = f"{target.vote_url}/v1/campaigns/{target.campaign}/likes", {"authorization": f"Bearer {token}"}
    try:
        answer = httpx.post(url, json={"candidates": candidates}, headers=headers, timeout=ANSWER_S_MAX)
    except httpx.TransportError:
        return 0, None
    return answer.status_code, answer.json() if answer.status_code == httpx.codes.OK else None


def _likes_of(story: Story, numbers: Mapping[int, int] | list[int]) -> set[tuple[str, str]]:
    ballots = (story.ballots[number] for number in numbers)
    return {(token, code) for token, candidates in ballots for code in candidates}


def _since(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {name: number - before.get(name, 0) for name, number in now.items()}
