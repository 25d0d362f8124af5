"""What the vote API holds while it runs: made in app.py; the server hands it to every connection and request."""

from __future__ import annotations

from typing import TypedDict

from dianzan.store.marks import Marks
from vote_api.likes.path import Likes
from vote_api.store.watch import StoreWatch
from vote_api.voters.classes import Voters


class VoteState(TypedDict):
    """What the lifespan yields; `LikeProtocol` takes its `likes` from here."""

    watch: StoreWatch
    marks: Marks
    voters: Voters
    likes: Likes
    draining: bool  # whether this process is asked to end, which the server says
