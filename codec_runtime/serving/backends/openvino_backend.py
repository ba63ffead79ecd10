"""OpenVINO on the CPU: fused kernels in fp32, bf16 where the CPU multiplies it natively.

The module is folded (:mod:`.rewrite`), traced and converted to an OpenVINO model whose batch and sides are
dynamic: a fixed shape runs at most a tenth faster but takes about 0.3 s of CPU time to compile, which the
first request of each new size would wait for; a dynamic model meets it within 0.1 s. The kernels it makes on
the way are kept in a bounded cache.

An encoder's truncation and power normalisation stay outside the graph, in fp32: the transmitted power is
exact in any precision.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Hashable
from typing import Any, cast

import openvino  # type: ignore[import-untyped]
import torch
from openvino.frontend import FrontEndManager  # type: ignore[import-untyped]
from openvino.frontend.pytorch.ts_decoder import (  # type: ignore[import-untyped]
    TorchScriptPythonDecoder,
)
from torch import Tensor, nn

from codec_runtime.channel.symbols import normalise_power
from codec_runtime.serving.backends.interface import (
    BackendError,
    BackendName,
    CodecNetwork,
    Precision,
    Proof,
)
from codec_runtime.serving.backends.openvino_template import CompiledTemplate
from codec_runtime.serving.backends.rewrite import fold

logger = logging.getLogger(__name__)

_PRECISION_HINT = {"fp32": "f32", "bf16": "bf16"}
_KERNELS_KEPT = 256
"""Compiled kernels of one network, the least recently used leave: about a dozen picture sizes. Otherwise each
new size keeps half a megabyte, and clients choose sizes."""
_TEMPLATES_KEPT = 8
"""Structures whose compiled form is kept, each with as much memory as its weights: an encoder and four kinds
of decoders are served at a time."""
_EXAMPLE_BATCH = 2  # a batch of one would let the trace take the dimension for a constant
_EXAMPLE_SIDE = 16


class OpenvinoBackend:
    """OpenVINO's CPU plug-in.

    Args:
        threads: of one inference; with one it runs in the calling thread, at that thread's priority.
        precision: of convolutions and matrix products.
    """

    name: BackendName = "openvino"

    def __init__(self, *, threads: int = 1, precision: Precision = "fp32") -> None:
        self.precision = precision
        self._templates: dict[Hashable, CompiledTemplate | None] = {}
        self._core = openvino.Core()
        self._options = {
            "INFERENCE_PRECISION_HINT": _PRECISION_HINT[precision],
            "INFERENCE_NUM_THREADS": threads,
            # Without streams importing computes in the calling thread alone, at its priority; with one, half
            # of it in a thread of OpenVINO's that has the priority of whoever was first. No difference after.
            "NUM_STREAMS": 0 if threads == 1 else 1,
            # The calling thread is the process's own; it must not stay bound to one core.
            "ENABLE_CPU_PINNING": False,
            "CPU_RUNTIME_CACHE_CAPACITY": _KERNELS_KEPT,
        }

    def build(self, module: nn.Module) -> CodecNetwork:
        """See :class:`Backend`; everything is compiled here."""
        try:
            compiled, proof = self._compiled(module)
        # The converter and the compiler raise whatever they come across, of several libraries' types.
        except Exception as error:
            name = getattr(module, "architecture", type(module).__name__)
            reason = str(error).strip().splitlines()
            message = reason[-1] if reason else type(error).__name__
            raise BackendError(f"openvino does not compile {name}: {message}") from error
        return _OpenvinoNetwork(compiled, cast(Any, module).config, proof, is_encoder=_is_encoder(module))

    def _compiled(self, module: nn.Module) -> tuple[openvino.CompiledModel, Proof]:
        """From the template of the module's structure if there is one."""
        folded = fold(module, transposed=True)
        state = folded.state_dict()
        shapes = tuple((name, tuple(tensor.shape)) for name, tensor in state.items())
        structure = (type(module), repr(cast(Any, module).config), shapes)
        if structure not in self._templates:
            self._templates[structure] = self._template_of(folded)
        template = self._templates[structure] = self._templates.pop(structure)  # the last is the newest
        if len(self._templates) > _TEMPLATES_KEPT:
            del self._templates[next(iter(self._templates))]
        if template is None:
            return self._compile(folded), Proof()
        return self._core.import_model(template.with_weights(state), "CPU", self._options), template.proof

    def _template_of(self, folded: nn.Module) -> CompiledTemplate | None:
        try:
            return CompiledTemplate(folded, lambda marked: self._compile(marked).export_model().getvalue())
        except ValueError as reason:
            logger.info("a network is compiled anew with each set of weights", extra={
                "architecture": getattr(folded, "architecture", ""), "reason": str(reason),
            })
            return None

    def _compile(self, folded: nn.Module) -> openvino.CompiledModel:
        return self._core.compile_model(export_folded(folded), "CPU", self._options)


class _OpenvinoNetwork:
    def __init__(
        self,
        compiled: openvino.CompiledModel,
        config: Any,
        proof: Proof,
        *,
        is_encoder: bool,
    ) -> None:
        self.config = config
        self.proof = proof
        self._is_encoder = is_encoder
        self._request = compiled.create_infer_request()
        self._one_at_a_time = threading.Lock()

    def __call__(self, values: Tensor, snr_db: Tensor, prefix: Tensor, /) -> Tensor:
        inputs = [tensor.contiguous().numpy() for tensor in (values, snr_db, prefix)]
        with self._one_at_a_time:
            # Results are copies: the request's own memory is written again by the next inference.
            (computed,) = self._request.infer(inputs, share_inputs=True, share_outputs=False).values()
            result = torch.from_numpy(computed)
        return normalise_power(result, prefix) if self._is_encoder else result


class _Analysis(nn.Module):
    """An encoder without its truncation and power normalisation."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor, snr_db: Tensor, prefix: Tensor) -> Tensor:
        latent: Tensor = cast(Any, self.encoder).analyse(images, snr_db, prefix)
        return latent


def _is_encoder(module: nn.Module) -> bool:
    return hasattr(module, "analyse")


def export_folded(folded: nn.Module) -> openvino.Model:
    """OpenVINO model of a folded codec module, inputs (values, snr_db, prefix) as of its ``forward``.

    An encoder's gives the latent before truncation and normalisation. The PyTorch front end is called without
    ``openvino.convert_model`` around it, which takes several times the CPU time and holds the interpreter's
    lock up to half a second at a time; requests would wait for that.

    Raises:
        RuntimeError: an operation without counterpart (and what else tracing may raise).
    """
    snr, prefix = torch.full((_EXAMPLE_BATCH,), 7.0), torch.full((_EXAMPLE_BATCH,), 1)
    if _is_encoder(folded):
        graph: nn.Module = _Analysis(folded)
        values = torch.zeros(_EXAMPLE_BATCH, 3, 4 * _EXAMPLE_SIDE, 4 * _EXAMPLE_SIDE)
    else:
        graph = folded
        channels = int(cast(Any, folded).config.latent_channels)
        values = torch.zeros(_EXAMPLE_BATCH, channels, _EXAMPLE_SIDE, _EXAMPLE_SIDE)
    example = (values, snr, prefix)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shapes of the example are not baked in: the tests vary them
        traced = torch.jit.trace(graph, example, check_trace=False)  # type: ignore[no-untyped-call]
        decoder = TorchScriptPythonDecoder(traced, example_input=example)
    front_end = FrontEndManager().load_by_framework("pytorch")
    model: openvino.Model = front_end.convert(front_end.load(decoder))
    return model
