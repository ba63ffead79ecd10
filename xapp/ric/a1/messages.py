"""RMR payloads between the A1 mediator and an xApp, all JSON.

- request (20010, mediator to xApp): ``operation``, ``policy_type_id``, ``policy_instance_id``, ``payload``.
  The mediator in Go (since 2022) sends every value as a string, the payload as JSON inside of it, empty for
  DELETE; the earlier one in Python sends a number and an object. Both are read. The RMR subscription id is
  the type id.
- response (20011, back to the sender): the two ids, ``handler_id`` and ``status`` (OK, ERROR, DELETED). The
  Go mediator asserts a JSON number and three strings and panics otherwise; it ignores further fields, and so
  did the Python one. ``docs/a1_xapp_contract_openapi.yaml`` allows none: see ``reason`` of
  :func:`encode_response`.
- query (20012, xApp to mediator): ``policy_type_id`` as a number. Answered by one CREATE request per
  instance, in no order and without an end mark; by nothing at all when there is none.

Source: O-RAN SC ric-plt/a1, ``pkg/rmr/rmr.go``, ``pkg/rmr/messages.go``; before 2022 ``a1/a1rmr.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import msgspec

LARGEST_TYPE_ID: Final = 2**31 - 1
MAX_MESSAGE_BYTES: Final = 256 << 10
"""Longer requests are not parsed."""

MAX_REASON_CHARACTERS: Final = 500

Status = Literal["OK", "ERROR", "DELETED"]


class A1MessageError(ValueError):
    """A request that cannot even be answered, since its ids are not known."""


@dataclass(frozen=True, slots=True)
class PolicyRequest:
    """A request.

    Attributes:
        operation: CREATE, UPDATE, DELETE, or whatever else stood there.
        policy_type_id: 1..2147483647.
        policy_instance_id: any string.
        content: JSON text of the instance; empty when there is none.
    """

    operation: str
    policy_type_id: int
    policy_instance_id: str
    content: bytes


class _Envelope(msgspec.Struct):
    policy_type_id: str | int
    policy_instance_id: str
    operation: msgspec.Raw = msgspec.Raw()
    payload: msgspec.Raw = msgspec.Raw()


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)


def decode_request(message: bytes) -> PolicyRequest:
    """Parse a request of either mediator.

    Raises:
        A1MessageError: too long, no JSON object, or an id missing, of the wrong type or out of range.
    """
    if len(message) > MAX_MESSAGE_BYTES:
        raise A1MessageError(f"A1 request of {len(message)} bytes: at most {MAX_MESSAGE_BYTES} are read")
    try:
        envelope = _ENVELOPE.decode(message)
    except msgspec.DecodeError as error:
        raise A1MessageError(f"A1 request: {error}") from error
    except RecursionError:
        raise A1MessageError("A1 request: nested too deeply") from None
    return PolicyRequest(
        operation=_content(envelope.operation).decode(errors="replace"),
        policy_type_id=_type_id(envelope.policy_type_id),
        policy_instance_id=envelope.policy_instance_id,
        content=_content(envelope.payload),
    )


def encode_request(operation: str, policy_type_id: int, policy_instance_id: str, content: str) -> bytes:
    """A request as the Go mediator writes it: strings only, keys sorted."""
    return msgspec.json.encode(
        {
            "operation": operation,
            "payload": content,
            "policy_instance_id": policy_instance_id,
            "policy_type_id": str(policy_type_id),
        }
    )


class _Response(msgspec.Struct, omit_defaults=True):
    policy_type_id: int
    policy_instance_id: str
    handler_id: str
    status: Status
    reason: str = ""


def encode_response(
    policy_type_id: int, policy_instance_id: str, handler_id: str, status: Status, reason: str = ""
) -> bytes:
    """A response.

    Args:
        reason: for people, of an ERROR. A field of its own, beyond the contract: no known mediator minds it,
            none shows it. Left out when empty; cut to 500 characters.
    """
    return msgspec.json.encode(
        _Response(policy_type_id, policy_instance_id, handler_id, status, reason[:MAX_REASON_CHARACTERS])
    )


def encode_query(policy_type_id: int) -> bytes:
    """A query for all instances of a type."""
    return msgspec.json.encode({"policy_type_id": policy_type_id})


def _content(raw: msgspec.Raw) -> bytes:
    """What the string in ``raw`` says, else its JSON text: a payload is a string or an object."""
    data = bytes(raw)
    if data.startswith(b'"'):
        try:
            return msgspec.json.decode(data, type=str).encode()
        except msgspec.DecodeError:  # whoever parses the text complains, and that can be answered
            return data
    return data


def _type_id(value: str | int) -> int:
    if isinstance(value, str):
        if not (value.isascii() and value.isdecimal() and len(value) <= 10):
            raise A1MessageError(f"policy_type_id {value[:40]!r} is no decimal number")
        value = int(value)
    if not 1 <= value <= LARGEST_TYPE_ID:
        raise A1MessageError(f"policy_type_id {value}: 1..{LARGEST_TYPE_ID} is needed")
    return value
