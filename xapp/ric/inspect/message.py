"""Bytes to a :class:`Message`: which PDU it is, which version of KPM, the tree and its rows.

A KPM message does not say its version. Without one given, the layouts of 3.00, of 2.02 and of 2.01 are tried
in that order, which covers every version. FlexRIC's dialect is only ever used when asked for, because many of
its messages are legal, and wrong, in the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from xapp.ric.aper import E2DecodeError
from xapp.ric.inspect.e2ap import E2AP_PDU, decode_e2ap, looks_like_e2ap
from xapp.ric.inspect.rows import Row, indication_rows
from xapp.ric.inspect.tree import Embedded
from xapp.ric.kpm.schema import (
    ACTION_DEFINITION,
    EVENT_TRIGGER,
    INDICATION_HEADER,
    INDICATION_MESSAGE,
    KPM_PDUS,
    RAN_FUNCTION,
    decode_kpm_pdu,
)
from xapp.ric.kpm.versions import KpmVersion, is_kpm_oid
from xapp.ric.rc.codec import decode_function, decode_header, decode_message, decode_outcome

_RC_DECODERS: Final[dict[str, Callable[[bytes], dict[str, Any]]]] = {
    "E2SM-RC-ControlHeader": decode_header,
    "E2SM-RC-ControlMessage": decode_message,
    "E2SM-RC-ControlOutcome": decode_outcome,
    "E2SM-RC-RANFunctionDefinition": decode_function,
}
RC_PDUS: Final = tuple(_RC_DECODERS)
PDU_NAMES: Final = (E2AP_PDU, *KPM_PDUS, *RC_PDUS)

_LAYOUTS: Final[tuple[KpmVersion, ...]] = ("3.00", "2.02", "2.01")
_ALIASES: Final = {
    "e2ap": E2AP_PDU,
    "trigger": EVENT_TRIGGER,
    "action": ACTION_DEFINITION,
    "header": INDICATION_HEADER,
    "message": INDICATION_MESSAGE,
    "function": RAN_FUNCTION,
    "rc-header": RC_PDUS[0],
    "rc-message": RC_PDUS[1],
    "rc-outcome": RC_PDUS[2],
    "rc-function": RC_PDUS[3],
}

# Octet strings of E2AP: what they can be, the likelier first.
_CONTENTS: Final[dict[str, tuple[str, ...]]] = {
    "RICindicationHeader": (INDICATION_HEADER,),
    "RICindicationMessage": (INDICATION_MESSAGE,),
    "RICcontrolHeader": (RC_PDUS[0],),
    "RICcontrolMessage": (RC_PDUS[1],),
    "RICcontrolOutcome": (RC_PDUS[2],),
    "ricEventTriggerDefinition": (EVENT_TRIGGER,),
    "ricActionDefinition": (ACTION_DEFINITION,),
    "RICeventTriggerDefinition": (EVENT_TRIGGER,),
    "RICactionDefinition": (ACTION_DEFINITION,),
    "ranFunctionDefinition": (RAN_FUNCTION, RC_PDUS[3]),
}


@dataclass(frozen=True, slots=True)
class Message:
    """A decoded message.

    Attributes:
        pdu: one of :data:`PDU_NAMES`.
        version: of KPM whose layout fits, given or found; None for a message without KPM. Where only the
            time stamp tells 3.00 from 2.03, by that.
        tree: values; octet strings of service models are :class:`~xapp.ric.inspect.tree.Embedded`.
        rows: of an indication message, bare or in a RIC Indication; None for any other.
    """

    pdu: str
    version: KpmVersion | None
    tree: Any
    rows: list[Row] | None = None


def pdu_name(text: str) -> str:
    """The PDU named ``text``: a name of the specifications, in any case, or ``header``, ``message``, ...

    Raises:
        ValueError: unknown.
    """
    plain = text.strip().lower()
    for name in PDU_NAMES:
        if name.lower() in (plain, f"e2sm-kpm-{plain}"):
            return name
    if plain in _ALIASES:
        return _ALIASES[plain]
    raise ValueError(f"PDU {text!r}: {', '.join((*_ALIASES, *PDU_NAMES))} are known")


def _furthest(errors: list[E2DecodeError]) -> E2DecodeError:
    """The error of the attempt that read deepest, then most: the likeliest reading."""
    return max(errors, key=lambda error: (error.field.count("."), error.offset))


def _known(value: dict[str, Any]) -> bool:
    """The format of the message is one the schema knows, not an octet string in its extension."""
    return not any(
        isinstance(part, tuple) and str(part[0]).startswith("extension-") for part in value.values()
    )


def _decode_kpm(pdu: str, data: bytes, version: KpmVersion | None) -> tuple[Any, KpmVersion]:
    """Value of a KPM message and the version that fits it.

    Raises:
        E2DecodeError: none does.
    """
    errors = []
    for layout in (version,) if version is not None else _LAYOUTS:
        try:
            value = decode_kpm_pdu(pdu, data, layout)
        except E2DecodeError as error:
            errors.append(error)
            continue
        if not _known(value):
            format_name = next(iter(value))
            errors.append(E2DecodeError("a format that no known version has", 0, f"{pdu}.{format_name}"))
            continue
        return value, layout if version is not None else _by_time_stamp(pdu, value, layout)
    worst = _furthest(errors)
    if version is None and _fits_flexric(pdu, data):
        hint = f"{worst.message} (FlexRIC's dialect fits: --kpm flexric)"
        raise E2DecodeError(hint, worst.offset, worst.field)
    raise worst


def _fits_flexric(pdu: str, data: bytes) -> bool:
    try:
        return _known(decode_kpm_pdu(pdu, data, "flexric"))
    except E2DecodeError:
        return False


def _by_time_stamp(pdu: str, value: dict[str, Any], layout: KpmVersion) -> KpmVersion:
    if pdu == INDICATION_HEADER and layout == "3.00":
        stamp = value["indicationHeader-formats"][1]["colletStartTime"]
        return "2.03" if len(stamp) == 4 else layout
    return layout


def _decode_one(pdu: str, data: bytes, version: KpmVersion | None) -> Message:
    if pdu == E2AP_PDU:
        return _expand(decode_e2ap(data), version)
    if pdu in _RC_DECODERS:
        return Message(pdu, None, _RC_DECODERS[pdu](data))
    value, fitting = _decode_kpm(pdu, data, version)
    if pdu == RAN_FUNCTION:
        _refuse_other_functions(value)
    return Message(pdu, fitting, value, indication_rows(value) if pdu == INDICATION_MESSAGE else None)


def _refuse_other_functions(value: dict[str, Any]) -> None:
    """Every service model's description begins alike; only the name says whose it is."""
    name = value["ranFunction-Name"]
    if not (is_kpm_oid(name["ranFunction-E2SM-OID"]) or "KPM" in name["ranFunction-ShortName"].upper()):
        raise E2DecodeError(
            f"the description of {name['ranFunction-ShortName']}, which is not KPM",
            0,
            f"{RAN_FUNCTION}.ranFunction-Name",
        )


@dataclass(slots=True)
class _Expansion:
    """What one E2AP message holds of service models."""

    version: KpmVersion | None
    found: list[KpmVersion] = field(default_factory=list)
    rows: list[Row] | None = None

    def walk(self, value: Any, name: str = "") -> Any:
        """``value`` with the octet strings named in ``_CONTENTS`` decoded."""
        match value:
            case bytes() if name in _CONTENTS:
                return self.embedded(value, _CONTENTS[name])
            case dict():
                return {key: self.walk(part, key) for key, part in value.items()}
            case list():
                return [self.walk(part, name) for part in value]
            case (str() as choice, part) if not isinstance(part, int) or isinstance(part, bool):
                return choice, self.walk(part, choice)
        return value

    def embedded(self, octets: bytes, pdus: tuple[str, ...]) -> Embedded:
        """``octets`` decoded as the first of ``pdus`` that fits."""
        errors = []
        for pdu in pdus:
            try:
                message = _decode_one(pdu, octets, self.version)
            except E2DecodeError as error:
                errors.append(error)
                continue
            if message.version is not None:
                self.found.append(message.version)
            if message.rows is not None:
                self.rows = message.rows
            return Embedded(octets, pdu, message.version, message.tree)
        return Embedded(octets, pdus[0], None, None, str(_furthest(errors)))


def _expand(value: Any, version: KpmVersion | None) -> Message:
    expansion = _Expansion(version)
    tree = expansion.walk(value)
    # The least of what was found: a header's short time stamp or a condition's layout rules the rest.
    oldest = min(expansion.found, default=None)
    return Message(E2AP_PDU, oldest, tree, expansion.rows)


def _guess(data: bytes, version: KpmVersion | None) -> Message:
    """The message in ``data``, whichever it is.

    Raises:
        E2DecodeError: none; of the attempts, the one that read deepest.
    """
    envelope = looks_like_e2ap(data)
    errors = []
    for pdu in (*((E2AP_PDU,) if envelope else ()), *KPM_PDUS, *RC_PDUS):
        try:
            return _decode_one(pdu, data, version)
        except E2DecodeError as error:
            errors.append(error)
    # RC, guessed last, is left out: its recursive parameters swallow a lot of anything.
    raise errors[0] if envelope else _furthest(errors[: len(KPM_PDUS)])


def inspect_message(data: bytes, *, version: KpmVersion | None = None, pdu: str | None = None) -> Message:
    """The message in ``data``.

    Args:
        version: of KPM; found if None.
        pdu: one of :data:`PDU_NAMES`; guessed if None: an E2AP-PDU where the envelope's length fits,
            otherwise the first message of KPM, then of RC, that ``data`` is the whole encoding of.

    Raises:
        E2DecodeError: it is none; with offset and field.
    """
    if not data:
        raise E2DecodeError("no bytes", 0, pdu or "message")
    return _guess(data, version) if pdu is None else _decode_one(pdu, data, version)
