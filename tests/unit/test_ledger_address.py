"""The ledger's address as people write it: what is understood, and the sentence for what is not."""

from __future__ import annotations

import pytest

from dianzan.domain.errors import LedgerError, StoreError
from dianzan.ledger.address import connection_options
from dianzan.store.nodes import connect, refuse_no_address

PLAIN = "postgresql://u:p@db.example:5432/dianzan"


@pytest.mark.parametrize(
    ("url", "dsn", "others"),
    [
        (PLAIN, PLAIN, {"timeout": 5}),
        (PLAIN.replace("postgresql", "postgres"), PLAIN.replace("postgresql", "postgres"), {"timeout": 5}),
        (f"{PLAIN}?connect_timeout=3", PLAIN, {"timeout": 3}),
        (f"{PLAIN}?connect_timeout=0", PLAIN, {"timeout": 5}),
        (f"{PLAIN}?pgbouncer=true", PLAIN, {"timeout": 5, "statement_cache_size": 0}),
        (f"{PLAIN}?pgbouncer=false&sslmode=require", f"{PLAIN}?sslmode=require", {"timeout": 5}),
        ("postgresql://a:1,b:2/d?pgbouncer=false", "postgresql://a:1,b:2/d", {"timeout": 5}),
        ("postgresql:///d?host=/run/pg", "postgresql:///d?host=%2Frun%2Fpg", {"timeout": 5}),
        ("postgresql://u:a%2Cb%40@db/d", "postgresql://u:a%2Cb%40@db/d", {"timeout": 5}),
    ],
)
def test_an_address_is_understood(url: str, dsn: str, others: dict[str, float]) -> None:
    assert connection_options(url) == {"dsn": dsn, **others}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://u:p@db/dianzan", "begins with mysql://: write postgresql://USER"),
        ("postgresql+asyncpg://u:p@db/dianzan", r"begins with postgresql\+asyncpg://: write postgresql://USER"),
        ("db.example/dianzan", "has no scheme: write postgresql://USER"),
        ("", "has no scheme: write postgresql://USER"),
        ("postgresql://u:[p@db/dianzan", "is no address .*%5B"),
        (PLAIN.replace("5432", "abc"), "is no address .*abc"),
        ("postgresql://u:a/b@db/d", "is no address .*%2F"),
        (PLAIN.replace("db.example", "a..b"), "is no address .*label empty"),
        (f"{PLAIN}?sslrootcert=/no/such.pem", "sslrootcert names /no/such.pem, which cannot be read"),
        (f"{PLAIN}?connect_timeout=soon", "connect_timeout is 'soon'; write whole seconds"),
        (f"{PLAIN}?pgbouncer=yes", "pgbouncer is 'yes'; write pgbouncer=true"),
    ],
)
def test_what_is_no_address_is_said_with_its_setting(url: str, said: str) -> None:
    with pytest.raises(LedgerError, match=said) as refused:
        connection_options(url)

    assert "DIANZAN_DATABASE_URL" in str(refused.value)
    assert "p@db" not in str(refused.value).replace("u:[p@db", ""), "no password is told"


@pytest.mark.parametrize("url", ["redis://:Ab,9x@host/0", "host:6379", "redis://a:6379,b:6379"])
def test_a_part_of_a_stores_address_that_is_none_is_said(url: str) -> None:
    with pytest.raises(ValueError, match="a comma in a password is written %2C"):
        connect(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://host:6379/0?foo=1", "a parameter after . is not known: 'foo'"),
        ("unix:///run/redis.sock", "begins with redis:// or rediss://"),
        ("rediss://host/0?ssl_ca_certs=/no/such.pem", "ssl_ca_certs names /no/such.pem, which cannot be read"),
        ("redis://host:abc/0", "abc"),
    ],
)
def test_a_stores_address_that_no_connection_can_be_made_of_is_said(url: str, said: str) -> None:
    with pytest.raises(StoreError, match=said) as refused:
        refuse_no_address(url)

    assert "is DIANZAN_REDIS_URL right?" in str(refused.value)


def test_a_comma_in_a_password_is_written_as_said() -> None:
    [node] = connect("redis://:Ab%2C9x@host/0").all()

    assert node.client.connection_pool.connection_kwargs["password"] == "Ab,9x"
