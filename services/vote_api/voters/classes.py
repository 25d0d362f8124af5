"""The voter classes that this API gives: what each asks of a client, and the token it gets."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

from dianzan.domain.campaign import Document
from dianzan.domain.codes import folded
from dianzan.domain.errors import ClassNotAllowed, Closed, TooManyRequests
from dianzan.domain.limits import TOKEN_LIFE_S
from dianzan.domain.voters import Voter, VoterClass
from dianzan.process import metrics
from dianzan.store.rates import Rates
from vote_api.documents import VoterAnswer
from vote_api.store.watch import StoreWatch


class Voters:
    """Makes voters: a method for each class. It checks what the class asks, then gives a token for a subject.

    While the store is down no voter is made, since nobody could count how many a network has asked for.
    """

    def __init__(self, *, watch: StoreWatch, rates: Rates, tokens_per_network_minute: int) -> None:
        self._watch, self._rates = watch, rates
        self._tokens_per_network_minute = tokens_per_network_minute

    async def device(self, campaign: str, publisher: str | None, address: str) -> VoterAnswer:
        """A new random voter. Anyone may ask, so one network (/24 or /48) gets a bounded number a minute."""
        document = self._watch.document(campaign)
        require_given(document, VoterClass.device)
        await self._require_share(document, address)
        return token_for(document, VoterClass.device, os.urandom(16), publisher)

    async def _require_share(self, document: Document, address: str) -> None:
        network = document.key.network_tag(address)
        minted = await self._rates.count_minted(document.rules.id, network, int(time.time()) // 60)
        if minted > self._tokens_per_network_minute:
            metrics.TOKENS.labels("limited").inc()
            raise TooManyRequests("Too many new voters from this network in this minute; ask again in the next.")


def require_given(document: Document, voter_class: VoterClass) -> None:
    """Raise Closed after the campaign's end, ClassNotAllowed if it takes no likes of this class."""
    if document.state.is_over:
        raise Closed("Voting has ended.")
    if voter_class not in document.allowed:
        raise ClassNotAllowed(f"This campaign takes likes of {' and '.join(document.rules.voter_classes)} voters only.")


def token_for(document: Document, voter_class: VoterClass, subject: bytes, publisher: str | None) -> VoterAnswer:
    """The token of the voter whom this class knows by `subject`: the same subject is the same voter."""
    code = folded(publisher or "")
    number = document.publisher_number.get(code)
    voter = Voter(document.key.voter_hash(voter_class.name, subject), voter_class, number or 0)
    expires_s = int(time.time()) + TOKEN_LIFE_S
    metrics.TOKENS.labels("given").inc()
    expires_at = datetime.fromtimestamp(expires_s, UTC)
    return VoterAnswer(document.key.token(voter, expires_s), voter_class.name, expires_at, code if number else None)
