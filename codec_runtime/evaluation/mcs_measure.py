"""`semcom eval mcs`: thresholds of 5G NR modulation and coding schemes, by sending code blocks over AWGN.

Encoder, rate matching, interleaver, Gray-mapped QAM, soft demapper (a-posteriori LLRs) and belief propagation
are sionna's (TS 38.211 and 38.212). Each scheme is measured on a grid of SNRs upwards from where nearly
every block is lost until the target is met.

The decoder runs in rounds, and blocks that are right after a round are not decoded further: no real receiver
would go on after its checksum holds either.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from codec_runtime.channel.awgn import noise_variance
from codec_runtime.evaluation.mcs import THRESHOLDS_FILE, Mcs, McsMeasurement

LOST = 0.9
"""A block error rate from which no lower SNR is measured."""


@dataclass(frozen=True)
class McsConfig:
    """What is measured.

    Attributes:
        first, last: I_MCS range of TS 38.214 table 5.1.3.1-1.
        information_bits: size of a code block (the standard's largest is 8448; it takes ten times as long).
        target: block error rate that defines the threshold.
        blocks: code blocks at an SNR that may meet the target; fewer once it cannot any more.
        least_blocks: code blocks at every SNR.
        step_db: grid.
        rounds, iterations: belief propagation: at most rounds x iterations iterations (flooding).
    """

    first: int = 3
    last: int = 28
    information_bits: int = 2112
    target: float = 1e-2
    blocks: int = 200
    least_blocks: int = 24
    step_db: float = 0.25
    rounds: int = 3
    iterations: int = 8
    batch: int = 8
    seed: int = 1


class CodedModulation:
    """LDPC code and QAM of one scheme, as a function from SNR to lost code blocks."""

    def __init__(self, index: int, config: McsConfig) -> None:
        # Extra `lab`, and five seconds to import.
        from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder  # noqa: PLC0415
        from sionna.phy.mapping import Constellation, Demapper, Mapper  # noqa: PLC0415
        from sionna.phy.nr.utils import decode_mcs_index  # noqa: PLC0415

        order, rate = decode_mcs_index(index, table_index=1, is_pusch=False)
        self.index, self.bits_per_symbol, self.code_rate = index, int(order), float(rate)
        longest = 3840 if self.code_rate <= 1 / 3 else 8448  # base graph 2; sionna has graph 1 above 1/3 only
        self.information_bits = min(config.information_bits, longest)
        symbols = math.ceil(self.information_bits / self.code_rate / self.bits_per_symbol)
        self.codeword_bits = symbols * self.bits_per_symbol
        self._encoder = LDPC5GEncoder(
            self.information_bits, self.codeword_bits, num_bits_per_symbol=self.bits_per_symbol
        )
        self._decoder = LDPC5GDecoder(
            self._encoder, num_iter=config.iterations, hard_out=True, return_state=True
        )
        constellation = Constellation("qam", self.bits_per_symbol)
        self._mapper = Mapper(constellation=constellation)
        self._demapper = Demapper("app", constellation=constellation)
        self._rounds = config.rounds
        self._generator = torch.Generator().manual_seed(1000 * config.seed + index)

    @torch.inference_mode()
    def lost(self, snr_db: float, blocks: int) -> int:
        """How many of ``blocks`` random code blocks are not restored at ``snr_db`` per complex symbol."""
        bits = torch.randint(2, (blocks, self.information_bits), generator=self._generator).float()
        symbols = self._mapper(self._encoder(bits))
        variance = noise_variance(torch.tensor(snr_db))
        noise = torch.randn(*symbols.shape, 2, generator=self._generator) * (variance / 2.0).sqrt()
        llrs: Tensor = self._demapper(symbols + torch.view_as_complex(noise), variance)
        state: Tensor | None = None
        for _ in range(self._rounds):
            restored, state = self._decoder(llrs, msg_v2c=state)
            assert state is not None
            wrong = (restored != bits).any(dim=1)
            if not wrong.any():
                return 0
            llrs, bits, state = llrs[wrong], bits[wrong], state[wrong]
        return int(bits.shape[0])


def error_rate(
    lost: Callable[[float, int], int], snr_db: float, config: McsConfig
) -> tuple[float, int]:
    """Block error rate at one SNR and the number of blocks sent.

    Stops once more blocks are lost than the target allows in ``config.blocks``, ``config.least_blocks`` sent.
    """
    allowed = config.target * config.blocks
    errors = sent = 0
    while sent < config.blocks and not (errors > allowed and sent >= config.least_blocks):
        errors += lost(snr_db, min(config.batch, config.blocks - sent))
        sent += min(config.batch, config.blocks - sent)
    return errors / sent, sent


def waterfall(
    lost: Callable[[float, int], int], guess_db: float, config: McsConfig
) -> dict[float, tuple[float, int]]:
    """SNR -> (block error rate, blocks) on the grid, from the last SNR lost to the first at the target.

    Args:
        guess_db: where to begin; the search goes down until blocks are lost and up until the target is met.
    """
    points: dict[float, tuple[float, int]] = {}
    snr = start = round(guess_db / config.step_db) * config.step_db
    while True:
        points[snr] = error_rate(lost, snr, config)
        if points[snr][0] >= LOST:
            break
        snr -= config.step_db
    snr = start
    while points[max(points)][0] > config.target:
        snr += config.step_db
        points[snr] = error_rate(lost, snr, config)
    return dict(sorted(points.items()))


def measure_schemes(config: McsConfig, on_scheme: Callable[[Mcs], None] | None = None) -> McsMeasurement:
    """Measure every scheme of the range.

    Raises:
        ModuleNotFoundError: sionna is not installed (extra ``lab``).
    """
    schemes: list[Mcs] = []
    gap_db = 1.0
    for index in range(config.first, config.last + 1):
        link = CodedModulation(index, config)
        efficiency = link.bits_per_symbol * link.information_bits / link.codeword_bits
        shannon_db = 10.0 * math.log10(2.0**efficiency - 1.0)
        points = waterfall(link.lost, shannon_db + gap_db - config.step_db, config)
        threshold = min(snr for snr, (rate, _) in points.items() if rate <= config.target)
        gap_db = threshold - shannon_db
        schemes.append(
            Mcs(
                index=index, bits_per_symbol=link.bits_per_symbol, code_rate=link.code_rate,
                information_bits=link.information_bits, codeword_bits=link.codeword_bits,
                threshold_db=threshold, snr_db=tuple(points),
                error_rate=tuple(rate for rate, _ in points.values()),
                blocks=tuple(sent for _, sent in points.values()),
            )
        )
        if on_scheme is not None:
            on_scheme(schemes[-1])
    return McsMeasurement(command=_command(config), config=_described(config), schemes=tuple(schemes))


def mcs_command(config: McsConfig, out: Path | None = None) -> McsMeasurement:
    """Measure with a progress bar on stderr and write ``out`` (default: the file that baselines read).

    Raises:
        ValueError: no scheme in the range.
        ModuleNotFoundError: sionna is not installed.
    """
    if config.first > config.last:
        raise ValueError(f"no scheme from index {config.first} to {config.last}")
    with tqdm(total=config.last - config.first + 1, unit="scheme", file=sys.stderr) as bar:
        measurement = measure_schemes(config, lambda _: bar.update())
    (out or THRESHOLDS_FILE).write_text(measurement.as_json() + "\n")
    return measurement


def _command(config: McsConfig) -> str:
    return (
        f"semcom eval mcs --blocks {config.blocks} --bits {config.information_bits} --seed {config.seed} "
        f"--first {config.first} --last {config.last}"
    )


def _described(config: McsConfig) -> dict[str, Any]:
    return {
        **asdict(config), "sionna": version("sionna-no-rt"), "channel": "awgn",
        "table": "TS 38.214 table 5.1.3.1-1",
    }
