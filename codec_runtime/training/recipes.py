"""Four ways to train one encoder for users with different decoders, at equal numbers of updates.

Every recipe makes E updates of the encoder and B updates of each user's decoder:

- ``anchor`` (the seed paper's Algorithm 1): stage 1 trains the encoder for E steps with a decoder of its own,
  which mirrors it; stage 2 freezes the encoder and trains each user's decoder alone for B steps (its
  eqs. 6 to 8).
- ``iterative``: encoder and one user's decoder for an epoch, then the next user's; E = users * B.
- ``simultaneous``: the sum of the users' losses updates the encoder at each of E steps; a decoder makes one
  update, with its mean gradient, of every E/B steps.
- ``joint-single``: for each user an encoder of its own, otherwise as ``simultaneous`` with that user alone:
  what a user could have without the others, the upper reference.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from codec_runtime.training.checkpoint import Checkpoint, Snapshot, TrainingInterrupted, stop_on_signal
from codec_runtime.training.config import Budget, TrainConfig
from codec_runtime.training.events import StageRecord, TrainEvents
from codec_runtime.training.ranks import Ranks
from codec_runtime.training.trainer import BatchSource, Stage, StageRun

ENCODER, ANCHOR = "encoder", "anchor"
RESERVED_NAMES = frozenset({ENCODER, ANCHOR})
"""Names of networks that no user's decoder may have."""

WarmStart = Callable[[str, nn.Module, nn.Module], None]
"""(user's name, user's decoder, trained anchor decoder): called before stage 2 of that user."""

Gradients = list[tuple[int, dict[tuple[str, str], float]]]


@dataclass
class TrainResult:
    """What a training made; the networks hold their averaged weights and are in evaluation mode.

    Attributes:
        encoders: the encoder of each user, by the user's name: one and the same but for ``joint-single``.
        decoders: the users' decoders.
        anchor: the anchor's own decoder (``anchor`` alone).
        stages: stages made, in order.
        gradients: (step, cosine of each two users' encoder gradients), as often as the configuration says.
    """

    encoders: dict[str, nn.Module]
    decoders: dict[str, nn.Module]
    anchor: nn.Module | None = None
    stages: list[StageRecord] = field(default_factory=list)
    gradients: Gradients = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """Networks and stages of one training."""

    networks: dict[str, nn.Module]
    stages: tuple[Stage, ...]
    encoder_of: dict[str, str]


@dataclass(frozen=True)
class Order:
    """What a recipe plans from."""

    encoder: nn.Module
    decoders: dict[str, nn.Module]
    encoder_budget: Budget
    decoder_budget: Budget
    epoch_steps: int
    anchor: nn.Module | None
    warm_start: WarmStart


@dataclass(frozen=True)
class Recipe:
    """A way of training.

    Attributes:
        summary: one line for help texts.
        plan: makes its stages; ValueError where the budgets do not suit it.
    """

    name: str
    summary: str
    plan: Callable[[Order], Plan]


def bypass_from_anchor(name: str, decoder: nn.Module, anchor: nn.Module) -> None:
    """Start a linear bypass at the anchor's, which has followed the encoder away from the PCA start.

    Networks without a bypass are left as they are.
    """
    ours, theirs = getattr(decoder, "bypass", None), getattr(anchor, "bypass", None)
    if isinstance(ours, nn.Module) and isinstance(theirs, nn.Module):
        ours.load_state_dict(theirs.state_dict())


def _anchor(order: Order) -> Plan:
    mirror = order.decoders.get("attention", next(iter(order.decoders.values()), None))
    anchor = order.anchor if order.anchor is not None else copy.deepcopy(mirror)
    if anchor is None:
        raise ValueError("the anchor recipe needs a decoder to train the encoder with")
    stages = [Stage("anchor", ENCODER, (ANCHOR,), order.encoder_budget)]
    for name, decoder in order.decoders.items():

        def before(name: str = name, decoder: nn.Module = decoder) -> None:
            order.warm_start(name, decoder, anchor)

        stage = Stage(f"decoder {name}", ENCODER, (name,), order.decoder_budget, False, before=before)
        stages.append(stage)
    networks = {ENCODER: order.encoder, ANCHOR: anchor, **order.decoders}
    return Plan(networks, tuple(stages), dict.fromkeys(order.decoders, ENCODER))


def _iterative(order: Order) -> Plan:
    encoder_steps, decoder_steps = _steps(order)
    users = len(order.decoders)
    if encoder_steps != users * decoder_steps:
        raise ValueError(
            f"iterative training of {users} decoders makes {users} encoder updates for one of each decoder: "
            f"{decoder_steps} of each need {users * decoder_steps}, not {encoder_steps}"
        )
    stage = Stage(
        "iterative", ENCODER, tuple(order.decoders), order.encoder_budget,
        turn_steps=order.epoch_steps, measures_conflict=True,
    )
    return Plan({ENCODER: order.encoder, **order.decoders}, (stage,), dict.fromkeys(order.decoders, ENCODER))


def _simultaneous(order: Order) -> Plan:
    stage = Stage(
        "simultaneous", ENCODER, tuple(order.decoders), order.encoder_budget,
        accumulate=_accumulate(order), measures_conflict=True,
    )
    return Plan({ENCODER: order.encoder, **order.decoders}, (stage,), dict.fromkeys(order.decoders, ENCODER))


def _joint_single(order: Order) -> Plan:
    accumulate = _accumulate(order)
    encoder_of = {name: f"{ENCODER}-{name}" for name in order.decoders}
    encoders: dict[str, nn.Module] = {own: copy.deepcopy(order.encoder) for own in encoder_of.values()}
    stages = tuple(
        Stage(f"joint {name}", own, (name,), order.encoder_budget, accumulate=accumulate)
        for name, own in encoder_of.items()
    )
    return Plan({**encoders, **order.decoders}, stages, encoder_of)


def _steps(order: Order) -> tuple[int, int]:
    encoder, decoder = order.encoder_budget, order.decoder_budget
    timed = encoder.minutes is not None or decoder.minutes is not None
    if timed or encoder.steps is None or decoder.steps is None:
        raise ValueError("this recipe needs both budgets in steps, not minutes")
    return encoder.steps, decoder.steps


def _accumulate(order: Order) -> int:
    encoder, decoder = _steps(order)
    if decoder < 1 or encoder % decoder:
        raise ValueError(
            f"{encoder} encoder updates are no multiple of {decoder} decoder updates: a decoder makes one of "
            "every E/B steps"
        )
    return encoder // decoder


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("anchor", "encoder with its mirror, then frozen; each decoder alone", _anchor),
        Recipe("iterative", "encoder with one decoder after the other, an epoch each", _iterative),
        Recipe("simultaneous", "encoder with all decoders at once, sum of losses", _simultaneous),
        Recipe("joint-single", "an encoder of its own for each decoder: the upper reference", _joint_single),
    )
}


def train(
    recipe: str,
    encoder: nn.Module,
    decoders: Mapping[str, nn.Module],
    batches: BatchSource,
    config: TrainConfig,
    *,
    encoder_updates: int | Budget,
    decoder_updates: int | Budget,
    events: TrainEvents | None = None,
    anchor: nn.Module | None = None,
    warm_start: WarmStart = bypass_from_anchor,
    checkpoint: Checkpoint | None = None,
    ranks: Ranks | None = None,
) -> TrainResult:
    """Train the networks in place (``joint-single``: ``encoder`` is copied and left alone).

    The result is a function of networks, configuration and data: in ``anchor`` that of one user does not
    depend on which others are there. A user's decoder for which no update is asked is left alone.

    Args:
        encoder, decoders: as the codec networks' contract has them, on one device, which is trained on.
        encoder_updates, decoder_updates: E and B; ``anchor`` takes minutes too.
        anchor: decoder of stage 1 of ``anchor``; default: a copy of ``attention`` or else the first.
        checkpoint: where to write, and go on from, an unfinished training; SIGINT and SIGTERM end in it.
        ranks: this process among those of a distributed training.

    Raises:
        ValueError: unknown recipe, reserved name, budgets that do not suit the recipe.
        DifferentTrainingError: the checkpoint is of another training.
        TrainingInterrupted: a signal; the checkpoint is written.
        FloatingPointError: the loss is not finite.
    """
    if recipe not in RECIPES:
        raise ValueError(f"unknown recipe {recipe!r}; known are {', '.join(RECIPES)}")
    if taken := RESERVED_NAMES & set(decoders):
        raise ValueError(f"no decoder may be named {', '.join(sorted(taken))}")
    ranks, events = ranks or Ranks(), events or TrainEvents()
    plan = RECIPES[recipe].plan(
        Order(
            encoder, dict(decoders), _budget(encoder_updates), _budget(decoder_updates), config.epoch_steps,
            anchor, warm_start,
        )
    )
    result = TrainResult(
        {name: plan.networks[own] for name, own in plan.encoder_of.items()}, dict(decoders),
        plan.networks.get(ANCHOR),
    )
    saved = checkpoint.load() if checkpoint is not None else None
    first, unfinished = (0, None) if saved is None else _restore(plan, result, saved)
    with stop_on_signal(checkpoint is not None) as stop:
        for number, stage in enumerate(plan.stages):
            if number < first or stage.budget.spent(0, 0.0) >= 1.0:
                continue
            resumed = unfinished is not None and number == first
            if not resumed and stage.before is not None:
                stage.before()
            run = StageRun(
                recipe, stage, plan.networks, batches, config, events=events, ranks=ranks,
                gradients=result.gradients,
            )
            if resumed and unfinished is not None:
                run.resume(unfinished)
            events.on_stage(stage.name)

            def gap(run: StageRun, number: int = number) -> None:
                if checkpoint is None:
                    return
                _, stopped = ranks.agree(0.0, stop.requested, run.device)
                if ranks.writes and (stopped or checkpoint.due()):
                    checkpoint.save(_snapshot(plan, result, number, run))
                if stopped:
                    raise TrainingInterrupted(f"stopped at step {run.step} of stage {run.name!r}")

            record = run.run(gap)
            result.stages.append(record)
            if checkpoint is not None and ranks.writes:
                checkpoint.save(_snapshot(plan, result, number + 1, None))
            events.on_stage_end(record)
    return result


def _budget(updates: int | Budget) -> Budget:
    return updates if isinstance(updates, Budget) else Budget(steps=updates)


def _snapshot(plan: Plan, result: TrainResult, stage: int, run: StageRun | None) -> Snapshot:
    tensors = {
        f"network/{name}/{key}": value
        for name, network in plan.networks.items()
        for key, value in network.state_dict().items()
    }
    record: dict[str, Any] = {
        "stage": stage,
        "run": None,
        "stages": [asdict(done) for done in result.stages],
        "gradients": [
            [step, [[a, b, c] for (a, b), c in cosines.items()]] for step, cosines in result.gradients
        ],
    }
    if run is not None:
        inner = run.snapshot()
        tensors |= inner.tensors
        record["run"] = inner.record
    return Snapshot(tensors, record)


def _restore(plan: Plan, result: TrainResult, saved: Snapshot) -> tuple[int, Snapshot | None]:
    """Load networks and records; (number of the stage to go on with, its snapshot if it has begun)."""
    for name, network in plan.networks.items():
        own = f"network/{name}/"
        network.load_state_dict(
            {key.removeprefix(own): value for key, value in saved.tensors.items() if key.startswith(own)}
        )
    result.stages.extend(StageRecord(**done) for done in saved.record["stages"])
    result.gradients.extend(
        (step, {(a, b): c for a, b, c in cosines}) for step, cosines in saved.record["gradients"]
    )
    run = saved.record["run"]
    return saved.record["stage"], None if run is None else Snapshot(saved.tensors, run)
