"""Who a like belongs to, without a name: voter hashes, voter tokens, receipts and network tags, all keyed BLAKE2b."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from itertools import product
from math import inf

import msgspec

from dianzan.domain.addresses import network
from dianzan.domain.errors import TokenExpired, TokenInvalid, TokenRevoked

KEY_BYTES = 32
VOTER_BYTES = 16
_MAC_BYTES = 12
_RECEIPT_BYTES = 10
_TOKEN_VERSION = 2
_EXPIRING = 1  # tokens of before hold their end in the place of their making
# version, voter class, publisher, Unix second of its making, voter
_TOKEN = struct.Struct(">BBHI16s")
_TOKEN_CHARS = (_TOKEN.size + _MAC_BYTES) // 3 * 4
_TOKEN_SHAPE = re.compile(rf"[A-Za-z0-9_-]{{{_TOKEN_CHARS}}}")
_PLAIN_BASE64 = bytes.maketrans(b"-_", b"+/")
_NOT_ISSUED = "This token was not issued for this campaign; ask for a new one: POST …/voters."
_LIKE = struct.Struct(">iH16s")
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TRIPLES = ["".join(three) for three in product(_CROCKFORD, repeat=3)]


class VoterClass(IntEnum):
    """How a voter was told from others; the number is what the ledger holds."""

    device = 1
    verified = 2


_CLASS_OF = {known.value: known for known in VoterClass}  # an eighth of what a call of the enum takes


class Voter(msgspec.Struct, frozen=True, gc=False):
    """What a token says: the 16-byte voter hash, its class, the publisher's number (0: the campaign's own page)."""

    hash: bytes
    voter_class: VoterClass
    publisher: int


@dataclass(frozen=True, slots=True)
class Revocation:
    """Tokens that are no longer taken: those of which everything holds that is not None. Times are Unix seconds."""

    number: int
    voter_class: VoterClass | None = None
    publisher: int | None = None
    made_from_s: int | None = None
    made_until_s: int | None = None

    def covers(self, voter: Voter, made_s: int) -> bool:
        """Whether a token is among them; one of before, which does not say when it was made, is older than any time."""
        return (
            self.voter_class in (None, voter.voter_class)
            and self.publisher in (None, voter.publisher)
            and (self.made_from_s is None or made_s >= self.made_from_s)
            and (self.made_until_s is None or made_s < self.made_until_s)
        )


def new_key() -> bytes:
    """A campaign's secret; without it no voter hash or receipt can be made or linked again."""
    return secrets.token_bytes(KEY_BYTES)


class CampaignKey:
    """The keyed hashes of one campaign; each purpose has a key of its own, derived from the campaign's secret."""

    __slots__ = ("_network", "_receipt", "_token", "_voter")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise ValueError(f"a campaign key has {KEY_BYTES} bytes, not {len(secret)}")
        self._token, self._voter, self._receipt, self._network = (
            blake2b(purpose, key=secret, digest_size=KEY_BYTES).digest()
            for purpose in (b"token", b"voter", b"receipt", b"network")
        )

    def voter_hash(self, issuer: str, subject: bytes) -> bytes:
        """16 bytes that stand for `subject` as named by `issuer`, in this campaign only."""
        message = len(issuer).to_bytes(1, "big") + issuer.encode() + subject
        return blake2b(message, key=self._voter, digest_size=VOTER_BYTES).digest()

    def token(self, voter: Voter, made_s: int) -> str:
        """The 48-character bearer token of `voter`, made in a Unix second. How long it is taken is for its reader."""
        body = _TOKEN.pack(_TOKEN_VERSION, voter.voter_class, voter.publisher, made_s, voter.hash)
        mac = blake2b(body, key=self._token, digest_size=_MAC_BYTES).digest()
        return base64.urlsafe_b64encode(body + mac).decode()

    def read_token(
        self, token: str, now_s: float, life_s: float = inf, revocations: Sequence[Revocation] = ()
    ) -> Voter:
        """Check a token without I/O (1-2 microseconds). Raises TokenInvalid, TokenRevoked, or TokenExpired.

        It expires `life_s` after its making. One of before is valid until the second it holds; with an endless life it
        is read whenever that was.
        """
        body = self._authentic_body(token)
        version, voter_class, publisher, moment_s, voter = _TOKEN.unpack(body)
        if version == _TOKEN_VERSION:
            ends_s = moment_s + life_s
        elif version == _EXPIRING:
            ends_s = moment_s if life_s < inf else inf
        else:
            raise TokenInvalid("This token is of another version; ask for a new one.")
        if ends_s <= now_s:
            raise TokenExpired("Have it renewed, or ask for a new one: POST …/voters.")
        read = Voter(voter, _CLASS_OF[voter_class], publisher)
        if revocations:
            made_s = moment_s if version == _TOKEN_VERSION else 0
            if any(revocation.covers(read, made_s) for revocation in revocations):
                raise TokenRevoked("Tokens like this one are no longer taken here.")
        return read

    def _authentic_body(self, token: str) -> bytes:
        # Checked by shape: the decoder would also read + and / as - and _, a second spelling of the same token.
        if _TOKEN_SHAPE.fullmatch(token) is None:
            raise TokenInvalid(_NOT_ISSUED)
        raw = binascii.a2b_base64(token.encode().translate(_PLAIN_BASE64))
        body, mac = raw[: _TOKEN.size], raw[_TOKEN.size :]
        if not hmac.compare_digest(mac, blake2b(body, key=self._token, digest_size=_MAC_BYTES).digest()):
            raise TokenInvalid(_NOT_ISSUED)
        return body

    def receipt(self, window_day: int, candidate: int, voter: bytes) -> str:
        """16 Crockford base32 characters, the same for every retry of the same like."""
        like = _LIKE.pack(window_day, candidate, voter)
        number = int.from_bytes(blake2b(like, key=self._receipt, digest_size=_RECEIPT_BYTES).digest(), "big")
        # Fifteen bits at a time: a quarter of what base64.b32encode takes, which loops in Python.
        t = _TRIPLES
        return (
            f"{t[number >> 65]}{t[number >> 50 & 32767]}{t[number >> 35 & 32767]}{t[number >> 20 & 32767]}"
            f"{t[number >> 5 & 32767]}{_CROCKFORD[number & 31]}"
        )

    def network_tag(self, address: str) -> int:
        """A signed 32-bit keyed hash of the address's prefix (/24 or /48); 0 if there is no address."""
        prefix = network(address, 3, 6)
        if not prefix:
            return 0
        return int.from_bytes(blake2b(prefix, key=self._network, digest_size=4).digest(), "big", signed=True)
