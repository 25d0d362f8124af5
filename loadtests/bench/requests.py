"""Like requests as bytes, one after another, each of a voter who has never liked: for load at a fixed rate."""

from __future__ import annotations

import os
from collections.abc import Callable

from dianzan.domain.campaign import Document
from dianzan.domain.voters import Voter, VoterClass
from loadtests.bench import wrk


def in_turn(document: Document, _voter: bytes, number: int) -> str:
    """Every candidate as often as another."""
    return document.candidates[number % len(document.candidates)]


def like_requests(
    document: Document, number: int, code_of: Callable[[Document, bytes, int], str] = in_turn
) -> tuple[list[bytes], list[str]]:
    """Like requests of so many new voters, and the candidate of each, by the voter's hash and the request's number."""
    hashes, path = os.urandom(16 * number), f"/v1/campaigns/{document.rules.id}/likes"
    requests, codes = [], []
    for n in range(number):
        voter = hashes[16 * n : 16 * n + 16]
        codes.append(code_of(document, voter, n))
        token = document.key.token(Voter(voter, VoterClass.device, 0), wrk.MADE_S)
        body = f'{{"candidates":["{codes[-1]}"]}}'
        requests.append(wrk.post(path, body, bearer=token, lengths=0).encode())
    return requests, codes
