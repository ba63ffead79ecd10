"""Any E2 message as a tree, for people: bytes, text or a capture in, named values out.

Belongs here: what `semcom e2 decode` does between reading a file and printing. Does not: anything of the
control loop, which has much faster decoders of its own (:mod:`xapp.ric.kpm`, :mod:`xapp.ric.e2ap`).

* :func:`read_messages`: hex, base64, binary, one hex message a line, pcap and pcapng to :class:`Source` s;
* :func:`inspect_message`: bytes to a :class:`Message` (name of the PDU, KPM version, tree, rows);
* :func:`to_json`: a tree as JSON; :func:`render`: as a :class:`rich.tree.Tree`.
"""

from xapp.ric.inspect.e2ap import E2AP_PDU
from xapp.ric.inspect.message import PDU_NAMES, Message, inspect_message, pdu_name
from xapp.ric.inspect.render import render
from xapp.ric.inspect.sources import InputError, Source, read_messages
from xapp.ric.inspect.tree import Embedded, to_json

__all__ = [
    "E2AP_PDU",
    "PDU_NAMES",
    "Embedded",
    "InputError",
    "Message",
    "Source",
    "inspect_message",
    "pdu_name",
    "read_messages",
    "render",
    "to_json",
]
