"""Rows of a KPM IndicationMessage: who, what, under which label, how much."""

from __future__ import annotations

from typing import Any, TypedDict

from xapp.ric.kpm.model import UE_KINDS, UeId, Value


class Row(TypedDict, total=False):
    """One value.

    Attributes:
        ue: name of the user, None for a value of the node or cell, or of an owner the message leaves open.
        measurement: name, ``measID:<n>``, or ``#<index>`` where the message leaves the list out.
        label: ``fiveQI=9``; empty for none.
        value: number, None for "no value".
        period: granularity period, 0 the oldest; only where there are several.
    """

    ue: str | None
    measurement: str
    label: str
    value: Value
    period: int


def _label(label: dict[str, Any]) -> str:
    parts = []
    for name, value in label.items():
        match value:
            case _ if name == "noLabel":
                continue
            case "true":
                parts.append(name)
            case bytes():
                parts.append(f"{name}={value.hex()}")
            case dict():
                parts.append(f"{name}={value['sST'].hex()}{value.get('sD', b'').hex()}")
            case (_, {"pLMNIdentity": bytes() as plmn, **identity}):
                bits: Any = next(iter(identity.values()))
                parts.append(f"{name}={plmn.hex()}-{bits.value:0{bits.size // 4}x}")
            case (_, inner):
                parts.append(f"{name}={inner}")
            case _:
                parts.append(f"{name}={value}")
    return ",".join(parts)


def _name(kind: tuple[str, Any]) -> str:
    return str(kind[1]) if kind[0] == "measName" else f"{kind[0]}:{kind[1]}"


def user_name(ueid: tuple[str, Any]) -> str:
    """Name of a user as telemetry has it: ``ue-<AMF-UE-NGAP-ID>`` for a gNB, ``<kind>-<id>`` otherwise."""
    kind = ueid[0].removesuffix("-UEID").lower()
    if kind not in UE_KINDS or not isinstance(ueid[1], dict):
        return ueid[0]
    return UeId(kind, next(iter(ueid[1].values()))).user


def _value(item: tuple[str, Any]) -> Value:
    return item[1] if item[0] in ("integer", "real") else None


def _report(report: dict[str, Any], ue: str | None) -> list[Row]:
    """Rows of message format 1."""
    columns = [
        (_name(item["measType"]), _label(labelled["measLabel"]))
        for item in report.get("measInfoList", ())
        for labelled in item["labelInfoList"]
    ]
    rows: list[Row] = []
    periods = report["measData"]
    for period, data in enumerate(periods):
        values = data["measRecord"]
        named = columns if len(columns) == len(values) else [(f"#{i}", "") for i in range(len(values))]
        for (measurement, label), item in zip(named, values, strict=True):
            rows.append({"ue": ue, "measurement": measurement, "label": label, "value": _value(item)})
            if len(periods) > 1:
                rows[-1]["period"] = period
    return rows


def _owners(item: dict[str, Any], period: int) -> list[str]:
    """Users that met the condition of a measurement in a granularity period (clause 7.4.4.4)."""
    by_period = item.get("matchingUEidPerGP")
    if by_period is None:
        return [user_name(matched["ueID"]) for matched in item.get("matchingUEidList", ())]
    if period >= len(by_period):
        return []
    alternative, matched = by_period[period]["matchedPerGP"]
    return [user_name(one["ueID"]) for one in matched] if alternative == "oneOrMoreUEmatched" else []


def _matched(message: dict[str, Any]) -> list[Row]:
    """Rows of message format 2: a value for each measurement and user that met its condition, in that order.

    Where the numbers differ, the order of the values is not specified: rows without a user.
    """
    rows: list[Row] = []
    periods = message["measData"]
    for period, data in enumerate(periods):
        owners: list[tuple[str | None, str, str]] = []
        for item in message["measCondUEidList"]:
            conditions = [c["matchingCondChoice"] if isinstance(c, dict) else c for c in item["matchingCond"]]
            labels = [_label(content) for name, content in conditions if name == "measLabel"]
            label = labels[0] if len(labels) == 1 else ""
            owners += [(ue, _name(item["measType"]), label) for ue in _owners(item, period)]
        values = data["measRecord"]
        if len(owners) != len(values):
            owners = [(None, f"#{index}", "") for index in range(len(values))]
        for (ue, measurement, label), value in zip(owners, values, strict=True):
            rows.append({"ue": ue, "measurement": measurement, "label": label, "value": _value(value)})
            if len(periods) > 1:
                rows[-1]["period"] = period
    return rows


def indication_rows(message: dict[str, Any]) -> list[Row]:
    """Rows of a decoded ``E2SM-KPM-IndicationMessage``, users in the order of the message."""
    name, content = message["indicationMessage-formats"]
    match name:
        case "indicationMessage-Format1":
            return _report(content, None)
        case "indicationMessage-Format2":
            return _matched(content)
        case "indicationMessage-Format3":
            return [
                row
                for report in content["ueMeasReportList"]
                for row in _report(report["measReport"], user_name(report["ueID"]))
            ]
    return []
