"""The real functions.lua in Lua 5.1, which stores embed: what a function finds there, and what its replies become."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final

from lupa.lua51 import LuaRuntime, lua_type
from redis.exceptions import ResponseError

from dianzan.store import library as production
from tests.simulation.store_data import Status

# Of Lua's own globals those that a store leaves to functions, and that give the same in every history.
_GLOBALS: Final = ["error", "ipairs", "next", "pairs", "pcall", "select", "tonumber", "tostring", "type", "unpack"]
_LIBRARIES: Final = ["math", "string", "table"]
_FORMAT: Final = {"B": "B", "I2": "H", "I4": "I", "I8": "Q"}  # of Lua's struct, as Python's has it

Run = Callable[..., Any]  # how a server runs one command; see Server.run


@dataclass(frozen=True, slots=True)
class _Function:
    callback: Callable[[Any, Any], Any]
    flags: frozenset[bytes]


class Library:
    """The library, loaded once; every simulated server runs its functions here, one at a time."""

    def __init__(self, source: str) -> None:
        self._lua = LuaRuntime(encoding=None, register_eval=False, register_builtins=False, unpack_returned_tuples=True)
        self._functions: dict[bytes, _Function] = {}
        self._run: Run | None = None
        shebang, _, body = source.partition("\n")
        assert shebang.startswith("#!lua"), shebang
        chunk = self._lua.compile(body.encode())
        self._lua.globals().setfenv(chunk, self._environment())
        chunk()

    def call(self, run: Run, name: bytes, keys: Sequence[bytes], args: Sequence[bytes], *, reads_only: bool) -> Any:
        """FCALL or FCALL_RO; its commands go to `run`. Raises ResponseError where the function or one of them refuses.

        An error in the Lua text itself is raised as it is: no history may have one.
        """
        function = self._functions.get(name)
        if function is None:
            raise ResponseError("Function not found")
        if reads_only and b"no-writes" not in function.flags:
            raise ResponseError("Can not execute a script with write flag using *_ro command.")
        self._run = partial(run, reads_only=b"no-writes" in function.flags)
        return _reply(function.callback(self._table(keys), self._table(args)))

    # ---- what a library finds ---------------------------------------------------------------------------------------

    def _environment(self) -> Any:
        lua = self._lua.globals()
        lua[b"math"][b"random"] = None  # its seed would be what histories before this one have left
        redis = {
            "call": self._call,
            "error_reply": lambda text: self._table_of({b"err": text}),
            "status_reply": lambda text: self._table_of({b"ok": text}),
            "register_function": self._register,
        }
        given = {name: lua[name.encode()] for name in [*_GLOBALS, *_LIBRARIES]}
        shims: dict[str, dict[str, Any]] = {
            "redis": redis,
            "struct": {"unpack": _unpack},
            "cjson": {"decode": self._decode},
        }
        tables = {name: self._table_of({k.encode(): v for k, v in of.items()}) for name, of in shims.items()}
        return self._table_of({name.encode(): value for name, value in {**given, **tables}.items()})

    def _register(self, named: Any, callback: Any = None) -> None:
        if callback is not None:
            self._functions[named] = _Function(callback, frozenset())
        else:
            self._functions[named[b"function_name"]] = _Function(
                named[b"callback"], frozenset(named[b"flags"].values())
            )

    def _call(self, *command: bytes | float) -> Any:
        assert self._run is not None
        words = [part if isinstance(part, bytes) else b"%.17g" % part for part in command]
        return self._value(self._run(words))

    def _decode(self, text: bytes) -> Any:
        return self._json(json.loads(text))

    def _json(self, value: Any) -> Any:
        if isinstance(value, dict):
            return self._table_of({key.encode(): self._json(inner) for key, inner in value.items()})
        if isinstance(value, list):
            return self._table([self._json(inner) for inner in value])
        return value.encode() if isinstance(value, str) else value

    # ---- replies ----------------------------------------------------------------------------------------------------

    def _value(self, reply: Any) -> Any:
        """A command's reply as a function sees it: nothing is `false`."""
        if isinstance(reply, Status):
            return self._table_of({b"ok": bytes(reply)})
        if isinstance(reply, list):
            return self._table([self._value(inner) for inner in reply])
        return False if reply is None else reply

    def _table(self, values: Sequence[Any]) -> Any:
        return self._lua.table_from(values)

    def _table_of(self, fields: dict[bytes, Any]) -> Any:
        return self._lua.table_from(fields)


def _reply(value: Any) -> Any:
    """What a function returns as its client gets it: a number is cut to an integer, a list ends at its first nil."""
    if isinstance(value, bool):
        return int(value) or None
    if isinstance(value, float):
        return int(value)
    if lua_type(value) != "table":
        return value
    if value[b"err"] is not None:
        raise ResponseError(value[b"err"].decode())
    if value[b"ok"] is not None:
        return Status(value[b"ok"])
    found: list[Any] = []
    while (inner := value[len(found) + 1]) is not None:
        found.append(_reply(inner))
    return found


def _unpack(layout: bytes, packed: bytes) -> tuple[Any, ...]:
    """Numbers, and the place behind them."""
    fields = _struct(layout)
    return (*fields.unpack_from(packed), fields.size + 1)


@cache
def _struct(layout: bytes) -> struct.Struct:
    order, *fields = layout.decode().replace("I", " I").replace("B", " B").split()
    return struct.Struct(order + "".join(_FORMAT[field] for field in fields))


@cache
def library() -> Library:
    """The one of this process."""
    return Library(production.source())
