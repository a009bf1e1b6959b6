#!/usr/bin/env python3
"""Makes hash-vectors.json, or with --check compares it, by a computation that shares nothing with the Rust one.

Canonical JSON is RFC 8785, written here from the RFC: members sorted by their UTF-16 code units, ECMAScript's spelling of doubles, the
shortest escapes. One thing is Dalsegno's own: integers beyond 2**53, which doubles cannot hold, enter as strings.
"""

import hashlib
import json
import pathlib
import sys

FILE = pathlib.Path(__file__).with_name("hash-vectors.json")
ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def number(value):
    """ECMA-262, Number::toString, for finite doubles."""
    if value == 0:
        return "0"
    sign, value = ("-", -value) if value < 0 else ("", value)
    mantissa, _, exponent = f"{value!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits, point = whole + fraction, len(whole) + int(exponent or 0)
    stripped = digits.lstrip("0")
    point -= len(digits) - len(stripped)
    digits = stripped.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return sign + digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return sign + "0." + "0" * -point + digits
    power = point - 1
    tail = ("e+" if power > 0 else "e-") + str(abs(power))
    return sign + digits[0] + ("." + digits[1:] if count > 1 else "") + tail


def text(value):
    return '"' + "".join(ESCAPES.get(c) or (f"\\u{ord(c):04x}" if c < " " else c) for c in value) + '"'


def canonical(value):
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int):
        return str(value) if abs(value) <= 2**53 else text(str(value))
    if isinstance(value, float):
        return number(value)
    if isinstance(value, str):
        return text(value)
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    members = sorted(value.items(), key=lambda member: member[0].encode("utf-16-be"))
    return "{" + ",".join(text(key) + ":" + canonical(member) for key, member in members) + "}"


TURN = {"type": "turn", "session": "session-1", "turn": "1"}


def vector(name, command, kind=None, scope=TURN, replay_key="k", effect_id="e", **provenance):
    invocation = {"scope": scope, "effect_id": effect_id, "kind": kind or command["type"], "replay_key": replay_key}
    hashed = canonical({"invocation": invocation, "command": command})
    envelope = {"invocation": {**invocation, **provenance}, "command": command}
    return {
        "name": name,
        "envelope": envelope,
        "canonical": hashed,
        "sha256": hashlib.sha256(hashed.encode()).hexdigest(),
    }


def direct(value):
    return {"type": "direct", "name": "n", "input": value}


def vectors():
    arguments = {"path": "a.txt", "lines": [1, 2, 3], "deep": {"z": None, "a": True}}
    for command in [
        {"type": "llm_call", "request": {"model": "m", "messages": [{"role": "user", "content": "hello"}]}},
        {"type": "tool_call", "tool": "read", "arguments": arguments},
        {"type": "tool_batch", "calls": [{"tool": "read", "arguments": arguments}, {"tool": "list", "arguments": []}]},
        {"type": "exec_code", "language": "python", "code": "print(\"a\\b\")\n"},
        {"type": "checkpoint", "state": {"step": 3}},
        {"type": "process", "request": {"start": ["sh", "-c", "true"]}},
        {"type": "trigger", "name": "nightly", "payload": {}},
        {"type": "sleep", "duration_ms": 1500},
        {"type": "await_event", "wait": "approve"},
        {"type": "peek_event", "wait": "approve"},
        {"type": "durable_step", "name": "count", "input": [1, "two"]},
        {"type": "external", "system": "github", "request": {"title": "t", "body": None}},
        {"type": "direct", "name": "n", "input": False},
    ]:
        yield vector("kind " + command["type"], command)
    for scope in [
        TURN,
        {"type": "process", "id": "1"},
        {"type": "queue_drain", "session": "session-1", "drain": "1"},
        {"type": "session_delete", "session": "session-1"},
        {"type": "runtime_operation", "id": "1"},
    ]:
        yield vector("scope " + scope["type"], direct(1), scope=scope)
    integers = [0, 1, -1, 2**53 - 1, 2**53, 2**53 + 1, -(2**53), -(2**53) - 1, 2**63 - 1, -(2**63), 2**64 - 1]
    yield vector("integers around 2^53, and the largest", direct(integers))
    yield vector("a sleep longer than a double can say", {"type": "sleep", "duration_ms": 2**64 - 1})
    doubles = [
        0.0, -0.0, 1.0, 1.5, -2.25, 0.1, 0.1 + 0.2, 1e21, 1e20, 123456789012345680000.0, 1.7976931348623157e308, 5e-324,
        1e-6, 1e-7, 0.000001234, 333333333.3333333, 1e23, 4.5, 2e-3, 1e300, 9007199254740994.0, 295147905179352830000.0,
    ]
    yield vector("doubles as ECMAScript writes them", direct(doubles))
    keys = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\x80": 6, "\xf6": 7, "": 8, "a": 9, "B": 10}
    yield vector("keys sorted by UTF-16 units", direct(keys))
    nested = {"b": {"y": [{"d": 1, "c": 2}], "x": {}}, "a": [[], {}, [[{"k": []}]]], "aa": 1, "Z": 2}
    yield vector("nested members are sorted, items are not", direct(nested))
    yield vector("every escape, and what is not escaped", direct("".join(map(chr, range(0x00, 0x30))) + "\\\x7f\u2028\ud7ff\U0010ffff/"))
    yield vector("ids of any letters", direct(1), replay_key="größe/\U0001f600\"", effect_id="\\\n")
    same = vector("without provenance", direct("same"))
    runtime = {"session": "s", "turn": "1", "turn_index": 3, "iteration": 4}
    more = vector("with provenance, the same hash", direct("same"), caused_by="other", runtime=runtime)
    assert same["sha256"] == more["sha256"]
    yield same
    yield more


def file():
    return json.dumps(list(vectors()), indent=1, ensure_ascii=True) + "\n"


if "--check" in sys.argv:
    sys.exit(0 if FILE.read_text() == file() else "hash-vectors.json is not what this computes")
FILE.write_text(file())
