"""Aligned PER (ITU-T X.691) driven by schemas: values of an ASN.1 type to bytes and back.

Belongs here: the built-in types of ASN.1 that E2 service models use, nothing of any protocol. Does not: the
schemas (:mod:`xapp.ric.kpm.schema`), nor the hand-written decoders of the hot path, which are many times
faster and know one message each.

A schema is a plain Python module that reads like the specification; ``...`` is the extension marker::

    from xapp.ric.asn1 import decode, encode, enumerated, field, integer, octet_string, optional, sequence

    S_NSSAI = sequence("S-NSSAI", field("sST", octet_string(1)), optional("sD", octet_string(3)), ...)
    LABEL = sequence("Label", optional("sliceID", S_NSSAI), optional("qFI", integer(0, 63, ...)), ...)
    encode(LABEL, {"qFI": 5})           # b"\\x21\\x40"
    decode(LABEL, b"\\x21\\x40")        # {"qFI": 5}

Values: ``dict`` (SEQUENCE, absent components left out), ``list`` (SEQUENCE OF), ``(name, value)`` (CHOICE),
``int``, ``float``, ``bool``, ``bytes``, ``str`` (PrintableString, and the identifier of an ENUMERATED),
:class:`Bits` (BIT STRING), ``None`` (NULL). An alternative or identifier newer than the schema is named
``extension-<n>``, its value the octets of its open type; unknown extension additions of a SEQUENCE are
skipped.

Errors: :func:`decode` raises :class:`~xapp.ric.aper.E2DecodeError` and nothing else, whatever the bytes;
:func:`encode` raises :class:`~xapp.ric.aper.E2EncodeError`.
"""

from xapp.ric.aper import E2DecodeError, E2EncodeError
from xapp.ric.asn1.composite import Choice, Deferred, Field, Sequence, SequenceOf
from xapp.ric.asn1.core import Asn1Type, decode, decode_prefix, encode
from xapp.ric.asn1.notation import (
    BOOLEAN,
    INTEGER,
    NULL,
    REAL,
    bit_string,
    choice,
    deferred,
    enumerated,
    field,
    integer,
    octet_string,
    optional,
    printable_string,
    sequence,
    sequence_of,
)
from xapp.ric.asn1.scalars import Boolean, Enumerated, Integer, Null, Real
from xapp.ric.asn1.strings import Bits, BitString, OctetString, PrintableString, Size

__all__ = [
    "BOOLEAN",
    "INTEGER",
    "NULL",
    "REAL",
    "Asn1Type",
    "BitString",
    "Bits",
    "Boolean",
    "Choice",
    "Deferred",
    "E2DecodeError",
    "E2EncodeError",
    "Enumerated",
    "Field",
    "Integer",
    "Null",
    "OctetString",
    "PrintableString",
    "Real",
    "Sequence",
    "SequenceOf",
    "Size",
    "bit_string",
    "choice",
    "decode",
    "decode_prefix",
    "deferred",
    "encode",
    "enumerated",
    "field",
    "integer",
    "octet_string",
    "optional",
    "printable_string",
    "sequence",
    "sequence_of",
]
