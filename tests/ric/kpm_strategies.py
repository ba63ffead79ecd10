"""Hypothesis strategies of what a KPM indication can hold, in pycrate's value notation."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from xapp.benchmarks.kpm_reference import plain_type, plain_value, real_notation
from xapp.ric.kpm import Value
from xapp.ric.kpm.versions import KpmVersion, kpm_layout

Fields = dict[str, Any]


def optional(required: Fields, **options: st.SearchStrategy[Any]) -> st.SearchStrategy[Fields]:
    """A SEQUENCE: field names with ``_`` for ``-``."""
    named = {name.replace("_", "-"): strategy for name, strategy in options.items()}
    return st.fixed_dictionaries(required, optional=named)


def bits(size: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(0, (1 << size) - 1), st.just(size))


uint32 = st.integers(0, 2**32 - 1)
octets = st.binary
flag = st.just("true")
plmn = octets(min_size=3, max_size=3)
ran_ue_id = octets(min_size=8, max_size=8)
amf_ue_id = st.integers(0, 2**40 - 1)
x2ap_id = st.integers(0, 4095)
count = st.integers(1, 65535)

guami = st.fixed_dictionaries(
    {"pLMNIdentity": plmn, "aMFRegionID": bits(8), "aMFSetID": bits(10), "aMFPointer": bits(6)}
)
gummei = st.fixed_dictionaries(
    {
        "pLMN-Identity": plmn,
        "mME-Group-ID": octets(min_size=2, max_size=2),
        "mME-Code": octets(min_size=1, max_size=1),
    }
)
gnb_id = st.fixed_dictionaries(
    {
        "pLMNIdentity": plmn,
        "gNB-ID": st.tuples(st.just("gNB-ID"), st.integers(22, 32).flatmap(bits)),
    }
)


def node(field: str, *choices: tuple[str, int]) -> st.SearchStrategy[Fields]:
    alternatives = [st.tuples(st.just(name), bits(size)) for name, size in choices]
    return st.fixed_dictionaries({"pLMNIdentity": plmn, field: st.one_of(alternatives)})


enb_id = node(
    "eNB-ID",
    *(("macro-eNB-ID", 20), ("home-eNB-ID", 28), ("short-Macro-eNB-ID", 18), ("long-Macro-eNB-ID", 21)),
)
ng_enb_id = node("ngENB-ID", ("macroNgENB-ID", 20), ("shortMacroNgENB-ID", 18), ("longMacroNgENB-ID", 21))
ran_node = st.tuples(st.just("gNB"), gnb_id) | st.tuples(st.just("ng-eNB"), ng_enb_id)
e1ap_ids = st.lists(st.fixed_dictionaries({"gNB-CU-CP-UE-E1AP-ID": uint32}), min_size=1, max_size=3)
f1ap_ids = st.lists(st.fixed_dictionaries({"gNB-CU-UE-F1AP-ID": uint32}), min_size=1, max_size=4)

UE_ID_FIELDS: dict[str, st.SearchStrategy[Fields]] = {
    "gNB-UEID": optional(
        {"amf-UE-NGAP-ID": amf_ue_id, "guami": guami},
        gNB_CU_UE_F1AP_ID_List=f1ap_ids,
        gNB_CU_CP_UE_E1AP_ID_List=e1ap_ids,
        ran_UEID=ran_ue_id,
        m_NG_RAN_UE_XnAP_ID=uint32,
        globalGNB_ID=gnb_id,
        globalNG_RANNode_ID=ran_node,
    ),
    "gNB-DU-UEID": optional({"gNB-CU-UE-F1AP-ID": uint32}, ran_UEID=ran_ue_id),
    "gNB-CU-UP-UEID": optional({"gNB-CU-CP-UE-E1AP-ID": uint32}, ran_UEID=ran_ue_id),
    "ng-eNB-UEID": optional(
        {"amf-UE-NGAP-ID": amf_ue_id, "guami": guami},
        ng_eNB_CU_UE_W1AP_ID=uint32,
        m_NG_RAN_UE_XnAP_ID=uint32,
        globalNgENB_ID=ng_enb_id,
        globalNG_RANNode_ID=ran_node,
    ),
    "ng-eNB-DU-UEID": st.fixed_dictionaries({"ng-eNB-CU-UE-W1AP-ID": uint32}),
    "en-gNB-UEID": optional(
        {"m-eNB-UE-X2AP-ID": x2ap_id, "globalENB-ID": enb_id},
        m_eNB_UE_X2AP_ID_Extension=st.integers(0, 5000),
        gNB_CU_UE_F1AP_ID=uint32,
        gNB_CU_CP_UE_E1AP_ID_List=e1ap_ids,
        ran_UEID=ran_ue_id,
    ),
    "eNB-UEID": optional(
        {"mME-UE-S1AP-ID": uint32, "gUMMEI": gummei},
        m_eNB_UE_X2AP_ID=x2ap_id,
        m_eNB_UE_X2AP_ID_Extension=x2ap_id,
        globalENB_ID=enb_id,
    ),
}
ue_ids = st.one_of([st.tuples(st.just(name), fields) for name, fields in UE_ID_FIELDS.items()])

finite = st.floats(allow_nan=False, allow_infinity=False).map(lambda value: value + 0.0 if value else 0.0)
records = st.one_of(
    st.tuples(st.just("integer"), uint32),
    st.tuples(st.just("real"), finite.map(real_notation)),
    st.just(("noValue", 0)),
    st.just(("notSatisfied", 0)),
)
printable = st.text("ABCabc019 '()+,-./:=?", min_size=1, max_size=150)
types = st.tuples(st.just("measName"), printable) | st.tuples(st.just("measID"), st.integers(1, 65536))

s_nssai = optional({"sST": octets(min_size=1, max_size=1)}, sD=octets(min_size=3, max_size=3))
nr_cell = st.fixed_dictionaries({"pLMNIdentity": plmn, "nRCellIdentity": bits(36)})
eutra_cell = st.fixed_dictionaries({"pLMNIdentity": plmn, "eUTRACellIdentity": bits(28)})
labels = optional(
    {},
    **dict.fromkeys(("noLabel", "sUM", "preLabelOverride", "min", "max", "avg"), flag),
    **dict.fromkeys(("bitrateRange", "layerMU_MIMO", "distBinX", "distBinY", "distBinZ"), count),
    **dict.fromkeys(("ssbIndex", "nonGoB_BFmode_Index"), count),
    **dict.fromkeys(("qCI", "qCImax", "qCImin"), st.integers(0, 255)),
    **dict.fromkeys(("aRPmax", "aRPmin"), st.integers(1, 15)),
    plmnID=plmn,
    sliceID=s_nssai,
    fiveQI=st.integers(0, 300),
    qFI=st.integers(0, 63),
    startEndInd=st.sampled_from(["start", "end"]),
    mIMO_mode_Index=st.integers(1, 2),
    cellGlobalID=st.tuples(st.just("nR-CGI"), nr_cell) | st.tuples(st.just("eUTRA-CGI"), eutra_cell),
    beamID=st.tuples(st.just("nR-Beam-ID"), st.integers(0, 63)),
)
LABEL_ORDER = [
    *("plmnID", "sliceID", "fiveQI", "qFI", "qCI", "qCImax", "qCImin", "aRPmax", "aRPmin", "bitrateRange"),
    *("layerMU-MIMO", "sUM", "distBinX", "distBinY", "distBinZ", "preLabelOverride", "startEndInd"),
    *("min", "max", "avg", "ssbIndex", "nonGoB-BFmode-Index", "mIMO-mode-Index", "cellGlobalID", "beamID"),
]


def label_text(label: Fields) -> str:
    parts = []
    for name in (name for name in LABEL_ORDER if name in label):
        value = label[name]
        if value == "true":
            parts.append(name)
            continue
        if isinstance(value, dict):
            value = (value["sST"] + value.get("sD", b"")).hex()
        elif isinstance(value, bytes):
            value = value.hex()
        elif name == "beamID":
            value = value[1]
        elif name == "cellGlobalID":
            kind, cell = value
            identity, size = cell["nRCellIdentity" if kind == "nR-CGI" else "eUTRACellIdentity"]
            value = f"{cell['pLMNIdentity'].hex()}-{identity:0{size // 4}x}"
        parts.append(f"{name}={value}")
    return ",".join(parts)


def column(kind: tuple[str, Any], label: Fields) -> str:
    text = label_text(label)
    return f"{plain_type(kind)}[{text}]" if text else plain_type(kind)


@st.composite
def measurement_reports(draw: st.DrawFn) -> Fields:
    """Message format 1: as many values as labels, one to three periods."""
    label_lists = st.lists(st.fixed_dictionaries({"measLabel": labels}), min_size=1, max_size=2)
    infos = st.fixed_dictionaries({"measType": types, "labelInfoList": label_lists})
    items = draw(st.lists(infos, min_size=1, max_size=3))
    width = sum(len(item["labelInfoList"]) for item in items)
    data = st.fixed_dictionaries(
        {"measRecord": st.lists(records, min_size=width, max_size=width)}, optional={"incompleteFlag": flag}
    )
    report: Fields = {"measData": draw(st.lists(data, min_size=1, max_size=3)), "measInfoList": items}
    if draw(st.booleans()):
        report["granulPeriod"] = draw(st.integers(1, 2**32 - 1))
    return report


def expected_rows(report: Fields) -> list[dict[str, Value]]:
    columns = [
        column(item["measType"], label["measLabel"])
        for item in report["measInfoList"]
        for label in item["labelInfoList"]
    ]
    return [
        dict(zip(columns, map(plain_value, data["measRecord"]), strict=True)) for data in report["measData"]
    ]


TEST_EXPRESSIONS = ("equal", "greaterthan", "lessthan", "contains", "present")
OLD_TESTS = ("gBR", "aMBR", "isStat", "isCatM", "rSRP", "rSRQ")
NEW_TESTS = ("ul-rSRP", "cQI", "fiveQI", "qCI", "sNSSAI")


def condition_values(version: KpmVersion) -> st.SearchStrategy[tuple[str, Any]]:
    values = [
        st.tuples(st.sampled_from(["valueInt", "valueEnum"]), st.integers(-(2**40), 2**40)),
        st.tuples(st.just("valueBool"), st.booleans()),
        st.tuples(st.just("valueBitS"), st.integers(1, 40).flatmap(bits)),
        st.tuples(st.just("valueOctS"), octets(max_size=20)),
        st.tuples(st.just("valuePrtS"), printable),
    ]
    if not kpm_layout(version).test_mandatory:
        values.append(st.tuples(st.just("valueReal"), finite.map(real_notation)))
    return st.one_of(values)


def conditions(version: KpmVersion) -> st.SearchStrategy[Any]:
    """MatchingCondItem in the layout of ``version``."""
    layout = kpm_layout(version)
    names = OLD_TESTS if layout.test_mandatory else OLD_TESTS + NEW_TESTS
    kind = st.tuples(st.sampled_from(names), flag)
    clause = {"testExpr": st.sampled_from(TEST_EXPRESSIONS), "testValue": condition_values(version)}
    if layout.test_mandatory:
        test = st.fixed_dictionaries({"testType": kind, **clause})
    else:
        test = st.fixed_dictionaries({"testType": kind}, optional=clause)
    choice = st.tuples(st.just("measLabel"), labels) | st.tuples(st.just("testCondInfo"), test)
    if layout.matching_cond_choice:
        return choice
    return st.fixed_dictionaries({"matchingCondChoice": choice}, optional={"logicalOR": flag})


def condition_text(condition: Any) -> str:
    """Text of a MatchingCondItem as the decoder gives it."""
    if isinstance(condition, dict):
        return condition_text(condition["matchingCondChoice"]) + " or" * ("logicalOR" in condition)
    kind, content = condition
    if kind == "measLabel":
        return label_text(content)
    words = [content["testType"][0]]
    if "testExpr" in content:
        words.append(content["testExpr"])
    if "testValue" in content:
        choice, value = content["testValue"]
        texts = {
            "valueBool": lambda: str(value).lower(),
            "valueBitS": lambda: f"{value[0]:0{value[1]}b}",
            "valueOctS": lambda: bytes.hex(value),
            "valueReal": lambda: repr(plain_value(("real", value))),
        }
        words.append(texts.get(choice, lambda: str(value))())
    return " ".join(words)


matched_users = st.lists(st.fixed_dictionaries({"ueID": ue_ids}), min_size=1, max_size=3)


@st.composite
def matching_messages(draw: st.DrawFn, version: KpmVersion) -> Fields:
    """Message format 2: each measurement with its matching users and one value for each of them."""
    periods = draw(st.integers(1, 2))
    by_period = not kpm_layout(version).matching_cond_choice and draw(st.booleans())
    items = []
    widths = [0] * periods
    for kind in draw(st.lists(types, min_size=1, max_size=3)):
        item = {"measType": kind, "matchingCond": draw(st.lists(conditions(version), min_size=1, max_size=2))}
        if by_period:
            matched = [draw(st.none() | matched_users) for _ in range(periods)]
            item["matchingUEidPerGP"] = [
                {"matchedPerGP": ("oneOrMoreUEmatched", users) if users else ("noUEmatched", "true")}
                for users in matched
            ]
            widths = [width + len(users or ()) for width, users in zip(widths, matched, strict=True)]
        else:
            item["matchingUEidList"] = draw(matched_users)
            widths = [width + len(item["matchingUEidList"]) for width in widths]
        items.append(item)
    data = [
        {"measRecord": draw(st.lists(records, min_size=width, max_size=width))}
        for width in map(max, widths, [1] * periods)
    ]
    return {"measData": data, "measCondUEidList": items}
