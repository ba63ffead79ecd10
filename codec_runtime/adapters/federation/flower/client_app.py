"""A user as a Flower ClientApp: says who it is, answers orders.

What it is comes from ``--node-config`` of its own SuperNode, so that no server chooses which code runs here:

- ``client``: its name in the federation; ``group``, ``encoder-bytes``: see :class:`Member`
- ``factory``: ``module:function`` of its task (:data:`codec_runtime.adapters.federation.tasks.TaskFactory`)
- ``options``: handed to it, as ``key:value,key:value``
- ``state-dir``: folder of its memory (label states), which survives restarts
- ``threads``: torch threads
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from codec_runtime.adapters.federation.client import ClientNode
from codec_runtime.adapters.federation.messages import Member, encode
from codec_runtime.adapters.federation.tasks import load_factory, parse_options

LOG = logging.getLogger(__name__)


def introduce(message: Message, context: Context) -> Message:
    """Answer a query with a :class:`Member`."""
    config = context.node_config
    member = Member(
        client=str(config["client"]),
        group=str(config.get("group", "")),
        encoder_bytes=int(config.get("encoder-bytes", 0)),
    )
    return _reply(message, encode(member))


def train(message: Message, context: Context) -> Message:
    """Answer a :class:`RoundOrder` with a :class:`RoundReply`."""
    config = context.node_config
    torch.set_num_threads(int(config.get("threads", 1)))
    name = str(config["client"])
    task = load_factory(str(config["factory"]))(name, parse_options(str(config.get("options", ""))))
    folder = Path(str(config["state-dir"]))
    folder.mkdir(parents=True, exist_ok=True)
    node = ClientNode(name, task, folder / f"{name}.msgpack")
    return _reply(message, node.answer(bytes(message.content["semcom"]["data"])))


def _reply(message: Message, data: bytes) -> Message:
    return Message(RecordDict({"semcom": ConfigRecord({"data": data})}), reply_to=message)


app = ClientApp()
app.query()(introduce)
app.train()(train)
