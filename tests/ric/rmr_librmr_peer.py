"""A real librmr endpoint in a process of its own, driven by JSON lines; nothing of the product is in it.

Commands on stdin: ``{"do": "send" | "call", "mtype": .., "sub_id": .., "meid": .., "xid": ..,
"payload": hex}`` by the process's route table; ``{"do": "answer", "mtype": .., "payload": hex}`` to return
every later message to its sender. It ends with its stdin. Every received message is a line on stdout.

Usage: ``python rmr_librmr_peer.py PORT`` with RMR's environment variables set.
"""

from __future__ import annotations

import json
import select
import sys
from typing import Any

from ricxappframe.rmr import rmr


def describe(kind: str, buffer: Any) -> None:
    fields = buffer.contents
    print(
        json.dumps(
            {
                "event": kind,
                "mtype": fields.mtype,
                "sub_id": fields.sub_id,
                "meid": rmr.rmr_get_meid(buffer).decode(),
                "xid": rmr.get_xaction(buffer).decode("latin-1"),
                "src": rmr.get_src(buffer),
                "payload": fields.payload[: fields.len].hex(),
            }
        ),
        flush=True,
    )


def prepare(context: int, command: dict[str, Any]) -> Any:
    payload = bytes.fromhex(command["payload"])
    buffer = rmr.rmr_alloc_msg(context, max(len(payload), 16), payload=payload)
    buffer.contents.mtype = command["mtype"]
    buffer.contents.sub_id = command["sub_id"]
    rmr.rmr_set_meid(buffer, command["meid"].encode())
    rmr.set_transaction_id(buffer, command["xid"].encode().ljust(32, b"\0"))
    return buffer


def send(context: int, command: dict[str, Any]) -> None:
    for _ in range(100):
        buffer = rmr.rmr_send_msg(context, prepare(context, command))
        state = buffer.contents.state
        rmr.rmr_free_msg(buffer)
        if state == rmr.RMR_OK:
            break
    print(json.dumps({"event": "sent", "state": state}), flush=True)


def call(context: int, command: dict[str, Any]) -> None:
    buffer = rmr.rmr_call(context, prepare(context, command))
    if buffer:
        describe("answered", buffer)
        rmr.rmr_free_msg(buffer)
    else:
        print(json.dumps({"event": "unanswered"}), flush=True)


def main() -> None:
    context = rmr.rmr_init(sys.argv[1].encode(), 4096, rmr.RMRFL_MTCALL)
    while not rmr.rmr_ready(context):
        select.select([], [], [], 0.01)
    print(json.dumps({"event": "ready"}), flush=True)
    answer: dict[str, Any] | None = None
    while True:
        if select.select([sys.stdin], [], [], 0)[0]:
            line = sys.stdin.readline()
            if not line:
                return
            command = json.loads(line)
            if command["do"] == "answer":
                answer = command
                print(json.dumps({"event": "answering"}), flush=True)
            else:
                {"send": send, "call": call}[command["do"]](context, command)
        buffer = rmr.rmr_torcv_msg(context, None, 10)
        if not buffer:
            continue
        describe("received", buffer)
        if answer is not None:
            payload = bytes.fromhex(answer["payload"])
            buffer = rmr.rmr_rts_msg(context, buffer, payload=payload, mtype=answer["mtype"])
        rmr.rmr_free_msg(buffer)


if __name__ == "__main__":
    main()
