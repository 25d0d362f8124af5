"""The voter classes that this API gives: what each asks of a client, and the token it gets."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

from dianzan.domain.campaign import Document
from dianzan.domain.codes import folded
from dianzan.domain.errors import ClassNotAllowed, Closed, NotOpen, TooManyRequests, VoterRefused
from dianzan.domain.voters import Voter, VoterClass
from dianzan.domain.windows import now_ms
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
        number = document.publisher_number.get(folded(publisher or ""), 0)
        voter = Voter(document.key.voter_hash(VoterClass.device.name, os.urandom(16)), VoterClass.device, number)
        return token_for(document, voter)

    async def renewed(self, campaign: str, token: str, address: str) -> VoterAnswer:
        """Another token of the same voter, whose own may have expired. It is counted as a new one is."""
        document = self._watch.document(campaign)
        voter = document.key.read_token(token, time.time(), revocations=document.revocations)
        require_given(document, voter.voter_class)
        await self._require_share(document, address)
        return token_for(document, voter)

    async def _require_share(self, document: Document, address: str) -> None:
        network = document.key.network_tag(address)
        minted = await self._rates.count_minted(document.rules.id, network, int(time.time()) // 60)
        if minted > self._tokens_per_network_minute:
            metrics.TOKENS.labels("limited").inc()
            raise TooManyRequests("Too many new voters from this network in this minute; ask again in the next.")


def require_given(document: Document, voter_class: VoterClass) -> None:
    """Raise Closed after the campaign's end, NotOpen before its opening, ClassNotAllowed for a class it does not take.

    Whoever could make tokens before the opening would have as many as there are minutes, for its first second.
    """
    if document.state.is_over:
        raise Closed("Voting has ended.")
    if now_ms() < document.rules.opens_ms:
        raise NotOpen("The campaign is not open yet, and has no voters before.")
    if voter_class not in document.allowed:
        raise ClassNotAllowed(f"This campaign takes likes of {' and '.join(document.rules.voter_classes)} voters only.")


def token_for(document: Document, voter: Voter) -> VoterAnswer:
    """A voter's token, made now. Raises VoterRefused if it would be revoked as it is made."""
    made_s = int(time.time())
    if any(revocation.covers(voter, made_s) for revocation in document.revocations):
        raise VoterRefused("This campaign takes no likes of this class, or by this publisher, any more.")
    metrics.TOKENS.labels("given").inc()
    expires_at = datetime.fromtimestamp(made_s + document.rules.token_life_s, UTC)
    publisher = document.publisher_code.get(voter.publisher)
    return VoterAnswer(document.key.token(voter, made_s), voter.voter_class.name, expires_at, publisher)
