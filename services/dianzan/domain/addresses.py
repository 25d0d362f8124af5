"""An address as a number: what of a client's address its network is made of."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address


@lru_cache(maxsize=65_536)
def network(address: str, v4_bytes: int, v6_bytes: int) -> bytes:
    """The first bytes of an address; none of what is no address. An IPv4 address in IPv6 is the IPv4 one."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return b""
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed.packed[: v4_bytes if parsed.version == 4 else v6_bytes]
