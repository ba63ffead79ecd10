"""ASN.1 of the E2SM common information elements that KPM uses: UEID, CGI, S-NSSAI, names of RAN functions and
styles (O-RAN.WG3.E2SM v02.01 to v05.00, module E2SM-COMMON-IEs); versions differ in extensions only."""

from __future__ import annotations

from typing import Final

from xapp.ric.asn1 import (
    INTEGER,
    bit_string,
    choice,
    field,
    integer,
    octet_string,
    optional,
    printable_string,
    sequence,
    sequence_of,
)

UINT32: Final = integer(0, 4294967295)
PLMN_IDENTITY: Final = octet_string(3)
FIVE_QI: Final = integer(0, 255, ...)
QCI: Final = integer(0, 255)
QOS_FLOW_IDENTIFIER: Final = integer(0, 63, ...)
S_NSSAI: Final = sequence("S-NSSAI", field("sST", octet_string(1)), optional("sD", octet_string(3)), ...)

RIC_STYLE_TYPE: Final = INTEGER
RIC_FORMAT_TYPE: Final = INTEGER
RIC_STYLE_NAME: Final = printable_string(1, 150, ...)
RAN_FUNCTION_NAME: Final = sequence(
    "RANfunction-Name",
    field("ranFunction-ShortName", printable_string(1, 150, ...)),
    field("ranFunction-E2SM-OID", printable_string(1, 1000, ...)),
    field("ranFunction-Description", printable_string(1, 150, ...)),
    optional("ranFunction-Instance", INTEGER),
    ...,
)

NR_CGI: Final = sequence(
    "NR-CGI", field("pLMNIdentity", PLMN_IDENTITY), field("nRCellIdentity", bit_string(36)), ...
)
EUTRA_CGI: Final = sequence(
    "EUTRA-CGI", field("pLMNIdentity", PLMN_IDENTITY), field("eUTRACellIdentity", bit_string(28)), ...
)
CGI: Final = choice("CGI", field("nR-CGI", NR_CGI), field("eUTRA-CGI", EUTRA_CGI), ...)
BEAM_ID: Final = choice("Beam-ID", field("nR-Beam-ID", integer(0, 63)), ...)
CELL_RNTI: Final = sequence(
    "Cell-RNTI", field("c-RNTI", integer(0, 65535)), field("cell-Global-ID", CGI), ...
)

GUAMI: Final = sequence(
    "GUAMI",
    field("pLMNIdentity", PLMN_IDENTITY),
    field("aMFRegionID", bit_string(8)),
    field("aMFSetID", bit_string(10)),
    field("aMFPointer", bit_string(6)),
    ...,
)
GUMMEI: Final = sequence(
    "GUMMEI",
    field("pLMN-Identity", PLMN_IDENTITY),
    field("mME-Group-ID", octet_string(2)),
    field("mME-Code", octet_string(1)),
    ...,
)

GLOBAL_GNB_ID: Final = sequence(
    "GlobalGNB-ID",
    field("pLMNIdentity", PLMN_IDENTITY),
    field("gNB-ID", choice("GNB-ID", field("gNB-ID", bit_string(22, 32)), ...)),
    ...,
)
GLOBAL_NG_ENB_ID: Final = sequence(
    "GlobalNgENB-ID",
    field("pLMNIdentity", PLMN_IDENTITY),
    field(
        "ngENB-ID",
        choice(
            "NgENB-ID",
            field("macroNgENB-ID", bit_string(20)),
            field("shortMacroNgENB-ID", bit_string(18)),
            field("longMacroNgENB-ID", bit_string(21)),
            ...,
        ),
    ),
    ...,
)
GLOBAL_ENB_ID: Final = sequence(
    "GlobalENB-ID",
    field("pLMNIdentity", PLMN_IDENTITY),
    field(
        "eNB-ID",
        choice(
            "ENB-ID",
            field("macro-eNB-ID", bit_string(20)),
            field("home-eNB-ID", bit_string(28)),
            ...,
            field("short-Macro-eNB-ID", bit_string(18)),
            field("long-Macro-eNB-ID", bit_string(21)),
        ),
    ),
    ...,
)
GLOBAL_NG_RAN_NODE_ID: Final = choice(
    "GlobalNGRANNodeID", field("gNB", GLOBAL_GNB_ID), field("ng-eNB", GLOBAL_NG_ENB_ID), ...
)

AMF_UE_NGAP_ID: Final = integer(0, 1099511627775)
RAN_UE_ID: Final = octet_string(8)
ENB_UE_X2AP_ID: Final = integer(0, 4095)
ENB_UE_X2AP_ID_EXTENSION: Final = integer(0, 4095, ...)
F1AP_ID_LIST: Final = sequence_of(
    sequence("UEID-GNB-CU-CP-F1AP-ID-Item", field("gNB-CU-UE-F1AP-ID", UINT32), ...), 1, 4
)
E1AP_ID_LIST: Final = sequence_of(
    sequence("UEID-GNB-CU-CP-E1AP-ID-Item", field("gNB-CU-CP-UE-E1AP-ID", UINT32), ...), 1, 65535
)

_CELL_RNTI = optional("cell-RNTI", CELL_RNTI)

UEID_GNB: Final = sequence(
    "UEID-GNB",
    field("amf-UE-NGAP-ID", AMF_UE_NGAP_ID),
    field("guami", GUAMI),
    optional("gNB-CU-UE-F1AP-ID-List", F1AP_ID_LIST),
    optional("gNB-CU-CP-UE-E1AP-ID-List", E1AP_ID_LIST),
    optional("ran-UEID", RAN_UE_ID),
    optional("m-NG-RAN-UE-XnAP-ID", UINT32),
    optional("globalGNB-ID", GLOBAL_GNB_ID),
    ...,
    optional("globalNG-RANNode-ID", GLOBAL_NG_RAN_NODE_ID),
    _CELL_RNTI,
)
UEID_GNB_DU: Final = sequence(
    "UEID-GNB-DU", field("gNB-CU-UE-F1AP-ID", UINT32), optional("ran-UEID", RAN_UE_ID), ..., _CELL_RNTI
)
UEID_GNB_CU_UP: Final = sequence(
    "UEID-GNB-CU-UP", field("gNB-CU-CP-UE-E1AP-ID", UINT32), optional("ran-UEID", RAN_UE_ID), ..., _CELL_RNTI
)
UEID_NG_ENB: Final = sequence(
    "UEID-NG-ENB",
    field("amf-UE-NGAP-ID", AMF_UE_NGAP_ID),
    field("guami", GUAMI),
    optional("ng-eNB-CU-UE-W1AP-ID", UINT32),
    optional("m-NG-RAN-UE-XnAP-ID", UINT32),
    optional("globalNgENB-ID", GLOBAL_NG_ENB_ID),
    ...,
    optional("globalNG-RANNode-ID", GLOBAL_NG_RAN_NODE_ID),
    _CELL_RNTI,
)
UEID_NG_ENB_DU: Final = sequence("UEID-NG-ENB-DU", field("ng-eNB-CU-UE-W1AP-ID", UINT32), ..., _CELL_RNTI)
UEID_EN_GNB: Final = sequence(
    "UEID-EN-GNB",
    field("m-eNB-UE-X2AP-ID", ENB_UE_X2AP_ID),
    optional("m-eNB-UE-X2AP-ID-Extension", ENB_UE_X2AP_ID_EXTENSION),
    field("globalENB-ID", GLOBAL_ENB_ID),
    optional("gNB-CU-UE-F1AP-ID", UINT32),
    optional("gNB-CU-CP-UE-E1AP-ID-List", E1AP_ID_LIST),
    optional("ran-UEID", RAN_UE_ID),
    ...,
    _CELL_RNTI,
)
UEID_ENB: Final = sequence(
    "UEID-ENB",
    field("mME-UE-S1AP-ID", UINT32),
    field("gUMMEI", GUMMEI),
    optional("m-eNB-UE-X2AP-ID", ENB_UE_X2AP_ID),
    optional("m-eNB-UE-X2AP-ID-Extension", ENB_UE_X2AP_ID_EXTENSION),
    optional("globalENB-ID", GLOBAL_ENB_ID),
    ...,
    _CELL_RNTI,
)
UEID: Final = choice(
    "UEID",
    field("gNB-UEID", UEID_GNB),
    field("gNB-DU-UEID", UEID_GNB_DU),
    field("gNB-CU-UP-UEID", UEID_GNB_CU_UP),
    field("ng-eNB-UEID", UEID_NG_ENB),
    field("ng-eNB-DU-UEID", UEID_NG_ENB_DU),
    field("en-gNB-UEID", UEID_EN_GNB),
    field("eNB-UEID", UEID_ENB),
    ...,
)
"""Seven alternatives; one of a later version reads as ``("extension-<n>", octets)``."""
