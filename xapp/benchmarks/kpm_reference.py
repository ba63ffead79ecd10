"""Generic ASN.1 codecs of KPM indications: oracle of the hand-written decoder, and what it is timed against.

``e2sm_kpm.asn`` is compiled when asked for, by pycrate and by asn1tools (0.1 s and 1 s), in the layout of any
version; a compilation is kept for the life of the process.
"""

from __future__ import annotations

import importlib.util
import math
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from xapp.ric.kpm.model import UE_KINDS, Value
from xapp.ric.kpm.versions import DEFAULT_KPM_VERSION, KpmVersion, kpm_layout

SYNTAX: Final = Path(__file__).with_name("e2sm_kpm.asn")
MESSAGE: Final = "E2SM-KPM-IndicationMessage"
HEADER: Final = "E2SM-KPM-IndicationHeader"

Decode = Callable[[str, bytes], Any]
"""Type name and encoding to the compiler's own value notation."""


class ReferenceMissingError(RuntimeError):
    """A reference compiler is not installed."""


def kpm_syntax(version: KpmVersion = DEFAULT_KPM_VERSION) -> str:
    """The ASN.1 text in the layout of ``version``, derived from that of v3.00."""
    layout = kpm_layout(version)
    text = SYNTAX.read_text()
    changes: list[tuple[str, str]] = []
    if layout.timestamp_octets != 8:
        changes.append(("OCTET STRING (SIZE (8))\n\nE2SM", "OCTET STRING (SIZE (4))\n\nE2SM"))
    if layout.matching_cond_choice:
        fields = "matchingCondChoice MatchingCondChoice, logicalOR Flag OPTIONAL, ..."
        changes.append((f"SEQUENCE {{ {fields} }}", "MatchingCondChoice"))
    if layout.test_mandatory:
        changes.append(
            (
                "testExpr TestCondExpression OPTIONAL, testValue TestCondValue OPTIONAL",
                "testExpr TestCondExpression, testValue TestCondValue",
            )
        )
    if layout.markers_moved:
        changes += [
            (f"  ...,\n{last} }}", f"{last}, ... }}")
            for last in (
                "  matchingUEidPerGP MatchingUEidPerGP OPTIONAL",
                "  ul-rSRP Flag, cQI Flag, fiveQI Flag, qCI Flag, sNSSAI Flag",
                "  valueReal REAL",
            )
        ]
        format_3 = "    indicationMessage-Format3 IndicationMessage-Format3\n"
        changes.append((f"    ...,\n{format_3}", f"{format_3.rstrip()}, ...\n"))
    for old, new in changes:
        if text.count(old) != 1:
            raise AssertionError(f"{SYNTAX.name} has no single {old!r} to change for {version}")
        text = text.replace(old, new)
    return text


@cache
def asn1tools_kpm(version: KpmVersion = DEFAULT_KPM_VERSION) -> Any:
    """asn1tools' specification of :func:`kpm_syntax`: ``decode(type, bytes)``, ``encode(type, value)``.

    Raises:
        ReferenceMissingError: asn1tools is not installed.
    """
    try:
        import asn1tools  # noqa: PLC0415 - a development dependency
    except ImportError as error:
        raise ReferenceMissingError("asn1tools is not installed; pip install asn1tools") from error
    return asn1tools.compile_string(kpm_syntax(version), "per")


class PycrateKpm:
    """pycrate's module of :func:`kpm_syntax`, with asn1tools' two calls."""

    def __init__(self, module: ModuleType) -> None:
        self._types = module.E2SM_KPM

    def type(self, name: str) -> Any:
        """The type object, by its ASN.1 name."""
        return getattr(self._types, name.replace("-", "_"))

    def decode(self, name: str, data: bytes) -> Any:
        """Value of an encoding."""
        kind = self.type(name)
        kind.from_aper(data)
        return kind.get_val()

    def encode(self, name: str, value: Any) -> bytes:
        """Encoding of a value."""
        kind = self.type(name)
        kind.set_val(value)
        return bytes(kind.to_aper())


@cache
def pycrate_kpm(version: KpmVersion = DEFAULT_KPM_VERSION) -> PycrateKpm:
    """pycrate's compilation of :func:`kpm_syntax`.

    Raises:
        ReferenceMissingError: pycrate is not installed.
    """
    try:
        from pycrate_asn1c.asnproc import (  # noqa: PLC0415 - 0.1 s
            GLOBAL,
            PycrateGenerator,
            compile_text,
            generate_modules,
        )
    except ImportError as error:
        raise ReferenceMissingError("pycrate is not installed; pip install pycrate") from error
    GLOBAL.clear()
    compile_text([kpm_syntax(version)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"e2sm_kpm_{version.replace('.', '_')}.py"
        generate_modules(PycrateGenerator, str(path))
        specification = importlib.util.spec_from_file_location(path.stem, path)
        if specification is None or specification.loader is None:
            raise ReferenceMissingError(f"{path} cannot be imported")
        module = importlib.util.module_from_spec(specification)
        sys.modules[path.stem] = module
        specification.loader.exec_module(module)
    return PycrateKpm(module)


def real_notation(value: float) -> tuple[int, int, int]:
    """A finite double as (mantissa, base, exponent), pycrate's notation of REAL, mantissa odd or 0."""
    fraction = Fraction(value)
    mantissa, exponent = fraction.numerator, 1 - fraction.denominator.bit_length()
    while mantissa and not mantissa & 1:
        mantissa >>= 1
        exponent += 1
    return mantissa, 2, exponent


def asn1tools_notation(value: Any) -> Any:
    """A value in pycrate's notation as asn1tools wants it: REAL, NULL and BIT STRING differ."""
    converted = value
    match value:
        case ("real" | "valueReal" as choice, (int(mantissa), 2, int(exponent))):
            converted = choice, math.ldexp(mantissa, exponent)
        case ("noValue" | "notSatisfied" as choice, 0):
            converted = choice, None
        case (int(bits), int(size)):
            converted = (bits << (-size % 8)).to_bytes((size + 7) >> 3, "big"), size
        case tuple():
            converted = tuple(map(asn1tools_notation, value))
        case list():
            converted = [asn1tools_notation(item) for item in value]
        case dict():
            converted = {name: asn1tools_notation(item) for name, item in value.items()}
    return converted


def plain_value(item: tuple[str, Any]) -> Value:
    """A MeasurementRecordItem of either compiler as the hand-written decoder gives it."""
    kind, value = item
    if kind == "integer":
        return int(value)
    if kind != "real":
        return None
    if isinstance(value, tuple):
        mantissa, base, exponent = value
        return math.ldexp(mantissa, exponent) if base == 2 else float(mantissa * Fraction(base) ** exponent)
    return float(value)


_UE_ID_FIELDS = {
    "gNB-UEID": "amf-UE-NGAP-ID",
    "gNB-DU-UEID": "gNB-CU-UE-F1AP-ID",
    "gNB-CU-UP-UEID": "gNB-CU-CP-UE-E1AP-ID",
    "ng-eNB-UEID": "amf-UE-NGAP-ID",
    "ng-eNB-DU-UEID": "ng-eNB-CU-UE-W1AP-ID",
    "en-gNB-UEID": "m-eNB-UE-X2AP-ID",
    "eNB-UEID": "mME-UE-S1AP-ID",
}
_UE_KIND_OF = dict(zip(_UE_ID_FIELDS, UE_KINDS, strict=True))


def plain_ue_id(ue: tuple[str, Mapping[str, Any]]) -> tuple[str, int, bytes | None]:
    """A UEID of either compiler as (kind, value, RAN UE id)."""
    choice, fields = ue
    return _UE_KIND_OF[choice], int(fields[_UE_ID_FIELDS[choice]]), fields.get("ran-UEID")


def plain_type(measurement: tuple[str, Any]) -> str:
    """A MeasurementType of either compiler as a name."""
    return f"measID:{measurement[1]}" if measurement[0] == "measID" else str(measurement[1])


def unlabelled_reports(message: Mapping[str, Any]) -> list[tuple[int, dict[str, Value]]]:
    """A format-3 message without labels, as either compiler gives it: (id, values by name) of each user."""
    _, content = message["indicationMessage-formats"]
    reports: list[tuple[int, dict[str, Value]]] = []
    for item in content["ueMeasReportList"]:
        report = item["measReport"]
        names = [plain_type(info["measType"]) for info in report["measInfoList"]]
        record: Sequence[tuple[str, Any]] = report["measData"][-1]["measRecord"]
        values = dict(zip(names, map(plain_value, record), strict=True))
        reports.append((plain_ue_id(item["ueID"])[1], values))
    return reports
