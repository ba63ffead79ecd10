"""`semcom split plan`: where to cut, for one user within limits or for many users of one edge server."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import typer

from xapp.cli.root import JsonFlag, fail, split_app
from xapp.cli.split import DEFAULT_EDGE, Edge, scaled, traced_networks

if TYPE_CHECKING:
    from codec_runtime.contract.split import CostProfile, SplitGraph
    from xapp.split.plan import CutCost, Plan, PlannedUser, SharedPlan


class UserRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user of ``--users``; what is left out is as the command's option says."""

    user: str
    device: str | None = None
    uplink_mbps: float | None = None
    downlink_mbps: float | None = None
    delay_ms: float | None = None
    per_second: float | None = None
    per_joule: float | None = None
    deadline_ms: float | None = None
    energy_mj: float | None = None
    memory_mb: float | None = None
    min_depth: int | None = None


@split_app.command("plan")
def plan_command(
    network: Annotated[str, typer.Argument(help="Network by name, e.g. efficientnet-lite0.")],
    device: Annotated[
        str, typer.Option(help="Device class, e.g. phone-mid or raspberry-pi-4b.")
    ] = "phone-mid",
    edge: Edge = DEFAULT_EDGE,
    profiles: Annotated[
        Path | None, typer.Option(help="File of `semcom split profile`; rooflines where left out.")
    ] = None,
    uplink: Annotated[float, typer.Option(min=0.001, help="Mbit/s up.")] = 10.0,
    downlink: Annotated[float, typer.Option(min=0.001, help="Mbit/s down.")] = 30.0,
    delay: Annotated[float, typer.Option(min=0.0, help="One way, ms.")] = 8.0,
    queue: Annotated[float, typer.Option(min=0.0, help="Wait at the server before a tail begins, ms.")] = 0.0,
    slowdown: Annotated[float, typer.Option(min=1.0, help="Times slower than the idle server.")] = 1.0,
    per_second: Annotated[float, typer.Option(min=0.0, help="Cost of a second of latency.")] = 1.0,
    per_joule: Annotated[float, typer.Option(min=0.0, help="Cost of a joule of the device.")] = 0.1,
    deadline: Annotated[float | None, typer.Option(min=0.0, help="Latency at most, ms.")] = None,
    energy: Annotated[float | None, typer.Option(min=0.0, help="Of the device at most, mJ.")] = None,
    memory: Annotated[
        float | None, typer.Option(min=0.0, help="Of the device, MB; as its class where left out.")
    ] = None,
    min_depth: Annotated[
        int | None, typer.Option(min=0, help="Operations between input and what crosses, at least.")
    ] = None,
    max_leakage: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Distance correlation of what crosses and the picture, at most."),
    ] = None,
    leakage: Annotated[
        Path | None, typer.Option(help="File of `semcom split leakage`, for --max-leakage.")
    ] = None,
    feature_bits: Annotated[
        int, typer.Option(min=1, max=32, help="A value that crosses takes; the input takes 8.")
    ] = 8,
    users: Annotated[
        Path | None, typer.Option(help='JSON list of users, [{"user": "a", "uplink_mbps": 3}, ...].')
    ] = None,
    alternatives: Annotated[int, typer.Option(min=0, help="Other cuts to show.")] = 8,
    json_: JsonFlag = False,
) -> None:
    """Say where a user should cut a network, or all users of one server together.

    Times are of device and edge class: from measured profiles scaled to them, or the rooflines alone. With
    --users each gets a cut and a share of the server; what a user leaves out is as the options say.

    Example:

      semcom split plan efficientnet-lite0 --device phone-low --uplink 3 --deadline 200
    """
    import json

    defaults = UserRow(
        user=device, device=device, uplink_mbps=uplink, downlink_mbps=downlink, delay_ms=delay,
        per_second=per_second, per_joule=per_joule, deadline_ms=deadline, energy_mj=energy, memory_mb=memory,
        min_depth=min_depth,
    )
    machines = _Machines(network, edge, feature_bits, profiles)
    private = _Privacy(max_leakage, _leakage_of(machines.graph, leakage, max_leakage))
    rows = [defaults] if users is None else _read_users(users, defaults)
    planned = [_planned(row, machines, private) for row in rows]
    if users is None:
        plan = _plan_one(planned[0], queue, slowdown, alternatives)
        shown = _plan_json(plan) | {"network": network, "device": device, "edge": edge}
        typer.echo(json.dumps(shown)) if json_ else _show_plan(planned[0], plan, edge)
        return
    shared = _plan_all(planned, queue)
    shown = _shared_json(planned, shared) | {"network": network, "edge": edge}
    typer.echo(json.dumps(shown)) if json_ else _show_shared(planned, shared, edge)


@dataclass
class _Machines:
    """The network's graph and its times on classes of devices and servers.

    Args:
        network: by name; efficientnet-lite0 and resnet50 need no torch without ``file``.
        file: of measured profiles.
    """

    network: str
    edge: str
    feature_bits: int
    file: Path | None

    def __post_init__(self) -> None:
        from xapp.split import reference_networks

        stored = {"efficientnet-lite0": reference_networks.efficientnet_lite0,
                  "resnet50": reference_networks.resnet50}
        self.measured: CostProfile | None = None
        if self.file is not None:
            traced = traced_networks([self.network], 1, fuse=True)[0]
            self.graph: SplitGraph = traced.graph
            from xapp.cli.split import stored_profile

            self.measured = stored_profile(traced, self.file)
        elif self.network in stored:
            self.graph = stored[self.network]()
        else:
            self.graph = traced_networks([self.network], 1, fuse=True)[0].graph

    def profile(self, machine: str, kind: Literal["device", "edge server"]) -> CostProfile:
        from codec_runtime.contract.devices import DEVICES, EDGES, class_profile

        if self.measured is not None:
            return scaled(self.graph, self.measured, machine)
        known = DEVICES if kind == "device" else EDGES
        if machine not in known:
            fail(f"no {kind} {machine!r}; there are {', '.join(known)}")
        return class_profile(self.graph, known[machine])


def _read_users(file: Path, defaults: UserRow) -> list[UserRow]:
    try:
        rows = msgspec.json.decode(file.read_bytes(), type=list[UserRow])
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    except msgspec.DecodeError as error:
        fail(f"{file}: {error}")
    if not 1 <= len(rows) <= 10_000:
        fail(f"{file}: {len(rows)} users; 1..10000 are needed")
    given = [{name: value for name, value in msgspec.structs.asdict(row).items() if value is not None}
             for row in rows]
    return [msgspec.structs.replace(defaults, **row) for row in given]


@dataclass(frozen=True)
class _Privacy:
    """``max_leakage`` and what each node of the graph gives away."""

    most: float | None
    leakage: tuple[float, ...]


def _leakage_of(graph: SplitGraph, file: Path | None, most: float | None) -> tuple[float, ...]:
    """Numbers for the graph's nodes, from a file; not a number where the file has none."""
    from codec_runtime.contract.split import LeakageTable

    if most is None:
        return ()
    if file is None:
        fail("--max-leakage needs --leakage: a file of `semcom split leakage`")
    try:
        table = msgspec.json.decode(file.read_bytes(), type=LeakageTable)
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    except msgspec.DecodeError as error:
        fail(f"{file}: {error}")
    found = tuple(table.leakage.get(node.name, float("nan")) for node in graph.nodes)
    if all(map(math.isnan, found)):
        fail(f"{file}: of {table.network}, no node of which is in {graph.name}")
    return found


def _planned(row: UserRow, machines: _Machines, private: _Privacy) -> PlannedUser:
    from codec_runtime.contract.devices import DEVICES
    from xapp.cli.split_views import link_of, power_of
    from xapp.split.constraints import Constraints
    from xapp.split.objective import Weights
    from xapp.split.plan import PlannedUser, coded_problem
    from xapp.split.problem import split_problem

    name = str(row.device)
    up, down, delay = row.uplink_mbps or 0.0, row.downlink_mbps or 0.0, row.delay_ms or 0.0
    if up <= 0.0 or down <= 0.0 or delay < 0.0:
        fail(f"{row.user}: rates above 0 and a delay of at least 0 are needed")
    problem = split_problem(
        machines.graph, machines.profile(name, "device"), machines.profile(machines.edge, "edge server")
    )
    own = DEVICES[name].memory_bytes if name in DEVICES else 0.0
    memory = 1e6 * row.memory_mb if row.memory_mb is not None else own or None
    return PlannedUser(
        row.user, coded_problem(problem, machines.feature_bits), link_of(up, down, delay), power_of(name),
        Weights(row.per_second or 0.0, row.per_joule or 0.0),
        Constraints(
            deadline_s=None if row.deadline_ms is None else row.deadline_ms / 1e3,
            energy_j=None if row.energy_mj is None else row.energy_mj / 1e3,
            memory_bytes=memory, min_depth=row.min_depth, max_leakage=private.most, leakage=private.leakage,
        ),
    )


def _plan_one(user: PlannedUser, queue_ms: float, slowdown: float, most: int) -> Plan:
    from xapp.split.constrained import InfeasibleError
    from xapp.split.latency import EdgeLoad
    from xapp.split.mincut import NoCutError
    from xapp.split.plan import plan_user

    try:
        return plan_user(user, EdgeLoad(queue_ms / 1e3, slowdown), most)
    except (InfeasibleError, NoCutError) as error:
        fail(str(error))


def _plan_all(users: list[PlannedUser], queue_ms: float) -> SharedPlan:
    from xapp.split.mincut import NoCutError
    from xapp.split.plan import plan_users

    try:
        return plan_users(users, queue_ms / 1e3)
    except (NoCutError, ValueError) as error:
        fail(str(error))


def _row(cost: CutCost) -> dict[str, Any]:
    times = cost.times
    return {
        "cut": cost.cut.id, "device_nodes": len(cost.cut.device), "crossing": list(cost.crossing),
        "bytes_up": cost.bytes_up, "device_s": float(times.device_s), "net_s": float(times.net_s),
        "edge_s": float(times.edge_s), "total_s": float(times.total_s), "energy_j": cost.energy_j,
        "memory_bytes": cost.memory_bytes, "cost": cost.cost, "keeps_limits": cost.keeps,
    }


def _plan_json(plan: Plan) -> dict[str, Any]:
    return {
        "best": _row(plan.best), "lower_bound": plan.found.lower_bound, "gap": plan.found.gap,
        "alternatives": [_row(one) for one in plan.alternatives],
    }


def _shared_json(users: list[PlannedUser], plan: SharedPlan) -> dict[str, Any]:
    return {
        "users": [
            {"user": user.name, "share": float(share), **_row(cost)}
            for user, share, cost in zip(users, plan.shared.shares, plan.users, strict=True)
        ],
        "cost": plan.shared.cost, "lower_bound": plan.shared.lower_bound, "gap": plan.shared.gap,
        "stable": plan.shared.stable,
    }


_COLUMNS = ("kB up", "device ms", "radio ms", "edge ms", "total ms", "device mJ", "cost")


def _cells(cost: CutCost) -> list[str]:
    times = cost.times
    milli = (times.device_s, times.net_s, times.edge_s, times.total_s, cost.energy_j)
    last = ", ".join(cost.crossing) or "nothing: all on the device"
    return [last if cost.keeps else f"{last} (breaks a limit)", f"{cost.bytes_up / 1e3:.1f}",
            *(f"{1e3 * float(value):.1f}" for value in milli), f"{cost.cost:.4f}"]


def _show_plan(user: PlannedUser, plan: Plan, edge: str) -> None:
    rows = [("best", _cells(plan.best)), *(("", _cells(one)) for one in plan.alternatives)]
    title = f"{user.problem.graph.name} on {user.name}, edge {edge}: cut {plan.best.cut.id}"
    _show(rows, title, f"gap to a lower bound of the cost: {plan.found.gap:.2%}")


def _show_shared(users: list[PlannedUser], plan: SharedPlan, edge: str) -> None:
    rows = [
        (f"{user.name} ({share:.0%})", _cells(cost))
        for user, share, cost in zip(users, plan.shared.shares, plan.users, strict=True)
    ]
    _show(rows, f"{len(users)} users, their shares of {edge}", f"gap to a lower bound: {plan.shared.gap:.2%}")


def _show(rows: list[tuple[str, list[str]]], title: str, caption: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "what crosses", title=title, caption=caption)
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    for first, cells in rows:
        table.add_row(first, *cells, style="bold" if first == "best" else None)
    console = Console()
    (console if console.is_terminal else Console(width=130)).print(table)
