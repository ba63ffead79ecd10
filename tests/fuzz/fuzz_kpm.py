"""Coverage-guided fuzzing of the E2AP and KPM decoders with atheris; how to run it: docs/fuzzing.md.

An input is: one byte that chooses the KPM version, one that gives the size of the indication header, header,
message. The same bytes are also tried as a whole E2AP PDU. Anything but a value or a decode error that names
field and offset ends the run with a crash file.

    python tests/fuzz/fuzz_kpm.py --write-seeds FOLDER      # once: golden messages as a corpus
    python tests/fuzz/fuzz_kpm.py FOLDER -max_len=4096      # then libFuzzer's own options
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

try:
    import atheris
except ImportError:  # Writing seeds and replaying a crash file need no atheris.
    atheris = None

if atheris is not None:
    with atheris.instrument_imports(include=["xapp.ric"]):
        from xapp.ric.aper import E2DecodeError
        from xapp.ric.e2ap import decode_ric_indication
        from xapp.ric.kpm import decode_kpm_indication, encode_indication_header
        from xapp.ric.kpm.versions import KPM_VERSIONS
else:
    from xapp.ric.aper import E2DecodeError
    from xapp.ric.e2ap import decode_ric_indication
    from xapp.ric.kpm import decode_kpm_indication, encode_indication_header
    from xapp.ric.kpm.versions import KPM_VERSIONS

VECTORS = Path(__file__).parents[1] / "ric" / "kpm_vectors.json"


def check(error: E2DecodeError, size: int) -> None:
    """Fail unless the error says what and where."""
    if not error.field or not error.message or not 0 <= error.offset <= size:
        raise AssertionError(f"error without field or offset: {error!r}") from error


def one_input(data: bytes) -> None:
    """Decode one input of the fuzzer."""
    try:
        decode_ric_indication(data)
    except E2DecodeError as error:
        check(error, len(data))
    if len(data) < 2:
        return
    version = KPM_VERSIONS[data[0] % len(KPM_VERSIONS)]
    header, message = data[2 : 2 + data[1]], data[2 + data[1] :]
    try:
        decode_kpm_indication(header, message, version=version)
    except E2DecodeError as error:
        check(error, len(data))


def write_seeds(folder: Path) -> int:
    """Golden messages as inputs; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    vectors = json.loads(VECTORS.read_text())
    header = encode_indication_header(1_700_000_000.5)
    inputs = []
    for vector in vectors["messages"] + vectors["matching"]:
        choice = KPM_VERSIONS.index(vector.get("version", "3.00"))
        inputs.append(bytes((choice, len(header))) + header + bytes.fromhex(vector["message"]))
    for vector in vectors["headers"]:
        raw = bytes.fromhex(vector["header"])
        if len(raw) < 256:
            inputs.append(bytes((4, len(raw))) + raw)
    for index, content in enumerate(inputs):
        (folder / f"seed_{index:03d}").write_bytes(content)
    return len(inputs)


def main() -> None:
    """Run as the module docstring says."""
    if len(sys.argv) == 3 and sys.argv[1] == "--write-seeds":
        print(f"{write_seeds(Path(sys.argv[2]))} seeds in {sys.argv[2]}")
        return
    if len(sys.argv) == 2 and Path(sys.argv[1]).is_file():
        one_input(Path(sys.argv[1]).read_bytes())
        print(f"{sys.argv[1]}: no crash")
        return
    if atheris is None:
        sys.exit("atheris is not installed; see docs/fuzzing.md")
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
