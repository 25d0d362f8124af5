"""Who a like belongs to, without a name: voter hashes, voter tokens, receipts and network tags, all keyed BLAKE2b."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import re
import secrets
import struct
from enum import IntEnum
from functools import lru_cache
from hashlib import blake2b
from itertools import product

import msgspec

from dianzan.domain.errors import TokenExpired, TokenInvalid

KEY_BYTES = 32
VOTER_BYTES = 16
_MAC_BYTES = 12
_RECEIPT_BYTES = 10
_TOKEN_VERSION = 1
# version, voter class, publisher, expiry in Unix seconds, voter
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

    def token(self, voter: Voter, expires_s: int) -> str:
        """The 48-character bearer token of `voter`, valid until Unix second `expires_s`."""
        body = _TOKEN.pack(_TOKEN_VERSION, voter.voter_class, voter.publisher, expires_s, voter.hash)
        mac = blake2b(body, key=self._token, digest_size=_MAC_BYTES).digest()
        return base64.urlsafe_b64encode(body + mac).decode()

    def read_token(self, token: str, now_s: float) -> Voter:
        """Check a token without I/O (1-2 microseconds). Raises TokenInvalid or TokenExpired."""
        body = self._authentic_body(token)
        version, voter_class, publisher, expires_s, voter = _TOKEN.unpack(body)
        if version != _TOKEN_VERSION:
            raise TokenInvalid("This token is of another version; ask for a new one.")
        if expires_s <= now_s:
            raise TokenExpired("Ask for a new token: POST …/voters.")
        return Voter(voter, _CLASS_OF[voter_class], publisher)

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
        prefix = _prefix(address)
        if not prefix:
            return 0
        return int.from_bytes(blake2b(prefix, key=self._network, digest_size=4).digest(), "big", signed=True)


@lru_cache(maxsize=65_536)
def _prefix(address: str) -> bytes:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return b""
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed.packed[: 3 if parsed.version == 4 else 6]
