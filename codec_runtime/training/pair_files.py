"""Users' labelled samples as one safetensors file: what the runtime hands to an alignment job's process.

Of user i: ``i.images`` (N, T, F) and ``i.texts`` (M, T, F) float16, padded; ``i.image_lengths`` (N,) and
``i.text_lengths`` (M,) int64, tokens of each; ``i.owner`` (M,) int64, the image that a text is said to belong
to. Names of users and encoders are in the file's metadata, as JSON under ``users``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from codec_runtime.adapters.pairs import PairSet
from codec_runtime.adapters.tokens import Tokens

Half = npt.NDArray[np.float16]


class UserSamples(msgspec.Struct, frozen=True, kw_only=True):
    """A user's samples through one encoder of each side.

    Attributes:
        image_encoder, text_encoder: names; modality: of the first side (``image``, ``series``).
        images: (T_i, F) each. texts: (T_j, F') each. owner: image of each text.
    """

    user: str
    image_encoder: str
    modality: str
    text_encoder: str
    images: list[Half]
    texts: list[Half]
    owner: list[int]


class _Names(msgspec.Struct, frozen=True):
    user: str
    image_encoder: str
    modality: str
    text_encoder: str


def pairs_file(users: Sequence[UserSamples]) -> bytes:
    """The file."""
    tensors: dict[str, Tensor] = {}
    for place, samples in enumerate(users):
        for side, found in (("image", samples.images), ("text", samples.texts)):
            tensors[f"{place}.{side}s"] = _padded(found)
            tensors[f"{place}.{side}_lengths"] = torch.tensor([len(sample) for sample in found])
        tensors[f"{place}.owner"] = torch.tensor(samples.owner)
    names = [_Names(s.user, s.image_encoder, s.modality, s.text_encoder) for s in users]
    return save(tensors, {"users": msgspec.json.encode(names).decode()})


def read_pairs(path: Path) -> dict[str, PairSet]:
    """Pairs by user.

    Raises:
        ValueError: the file is none of :func:`pairs_file`.
        OSError: it cannot be read.
    """
    try:
        with safe_open(path, "pt") as file:
            names = msgspec.json.decode((file.metadata() or {}).get("users", ""), type=list[_Names])
            return {
                name.user: PairSet(
                    _tokens(file.get_tensor(f"{i}.images"), file.get_tensor(f"{i}.image_lengths"),
                            name.modality, name.image_encoder),
                    _tokens(file.get_tensor(f"{i}.texts"), file.get_tensor(f"{i}.text_lengths"),
                            "text", name.text_encoder),
                    file.get_tensor(f"{i}.owner"),
                )
                for i, name in enumerate(names)
            }
    except (SafetensorError, msgspec.MsgspecError) as error:
        raise ValueError(f"{path.name} holds no users' pairs: {error}") from error


def _padded(samples: Sequence[Half]) -> Tensor:
    parts = [torch.from_numpy(np.ascontiguousarray(sample)) for sample in samples]
    return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)


def _tokens(values: Tensor, lengths: Tensor, modality: str, encoder: str) -> Tokens:
    return Tokens(values, torch.arange(values.shape[1])[None] < lengths[:, None], modality, encoder)
