"""`semcom split`: what a network costs on this machine, and where it could be cut."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xapp.cli.root import JsonFlag, fail, split_app

if TYPE_CHECKING:
    from codec_runtime.contract.split import CostProfile, SplitGraph
    from codec_runtime.split.graph import TracedNetwork

Networks = Annotated[
    list[str], typer.Argument(help="Network by name, e.g. efficientnet-lite0; several are measured together.")
]
Edge = Annotated[
    str, typer.Option(help="Edge server: a named one, or the machine that the profile is of.")
]
DEFAULT_EDGE = "edge-cpu-32"
Fuse = Annotated[bool, typer.Option("--fuse/--no-fuse", help="Fold cheap operations into what they read.")]


@split_app.command("profile")
def profile_command(
    networks: Networks,
    threads: Annotated[list[int] | None, typer.Option(help="torch threads; repeat for several. [1]")] = None,
    rounds: Annotated[int, typer.Option(min=2, help="Interleaved runs that a median is over.")] = 15,
    batch: Annotated[int, typer.Option(min=1, help="Pictures in one run.")] = 1,
    fuse: Fuse = False,
    device_class: Annotated[str, typer.Option(help="Name to store; host-<n>t where left out.")] = "",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON file of the profiles.")] = None,
    json_: JsonFlag = False,
) -> None:
    """Measure how long each operation of a network takes on this machine.

    Each is timed inside runs of the whole network; networks and thread counts take turns in random order.
    With two networks or more a model of layers is fitted, and its error told on networks left out of the fit.

    Example:

      semcom split profile resnet50 efficientnet-lite0 vit-tiny --threads 1 -o host.json
    """
    import json

    from codec_runtime.split.profile import write_profiles

    traced = traced_networks(networks, batch, fuse)
    profiles = _measured(traced, threads or [1], rounds, device_class)
    if output is not None:
        write_profiles(output, profiles)
    summary = _profile_summary(traced, profiles)
    if json_:
        typer.echo(json.dumps(summary))
    else:
        _show_profiles(summary)


@split_app.command("explain")
def explain_command(
    network: Annotated[str, typer.Argument(help="Network by name, e.g. resnet50.")],
    profiles: Annotated[
        Path | None, typer.Option(help="File of `semcom split profile`; measured now where left out.")
    ] = None,
    device: Annotated[
        str, typer.Option(help="Device: a named one, or the machine that the profile is of.")
    ] = "raspberry-pi-4b",
    edge: Edge = DEFAULT_EDGE,
    uplink: Annotated[float, typer.Option(min=0.001, help="Mbit/s up.")] = 10.0,
    downlink: Annotated[float, typer.Option(min=0.001, help="Mbit/s down.")] = 30.0,
    delay: Annotated[float, typer.Option(min=0.0, help="One way, ms.")] = 5.0,
    fuse: Fuse = True,
    figure: Annotated[
        Path | None, typer.Option("--figure", help="Draw graph, cut and costs: .svg or .png.")
    ] = None,
    json_: JsonFlag = False,
) -> None:
    """Show where a network would be cut, and what every other place would cost.

    Device and edge server by name are the measured profile scaled by compute and memory bandwidth; either may
    be the machine of the profile itself. The best cut is over all sets of operations; the table has the cuts
    in topological order.

    Example:

      semcom split explain efficientnet-lite0 --uplink 5 --figure cut.svg
    """
    import json

    from xapp.cli import split_views

    if figure is not None and figure.suffix not in (".svg", ".png"):
        fail(f"{figure}: want a name that ends in .svg or .png")
    traced = traced_networks([network], 1, fuse)[0]
    measured = _profile_of(traced, profiles)
    explanation = split_views.explain(
        traced.graph, scaled(traced.graph, measured, device), scaled(traced.graph, measured, edge),
        split_views.link_of(uplink, downlink, delay), split_views.power_of(device),
    )
    if figure is not None:
        from codec_runtime.split.figure import cut_figure, figure_bytes

        subtitle = f"{device}, edge {edge}, {uplink:g} Mbit/s up, {delay:g} ms one way"
        drawn = cut_figure(traced.graph, explanation.cut, explanation.candidates, subtitle)
        figure.write_bytes(figure_bytes(drawn, figure.suffix[1:]))
    if json_:
        typer.echo(json.dumps(explanation.as_json()))
    else:
        split_views.show(explanation)


def traced_networks(names: list[str], batch: int, fuse: bool) -> list[TracedNetwork]:
    """Networks by name; exits with a message where one is not known or lacks its weights."""
    from codec_runtime.split.graph import trace
    from codec_runtime.split.networks import NETWORKS, build_network
    from codec_runtime.split.networks.efficientnet import WeightsUnavailableError

    unknown = [name for name in names if name not in NETWORKS]
    if unknown:
        fail(f"no network {', '.join(unknown)}; there are {', '.join(NETWORKS)}")
    try:
        return [trace(name, *build_network(name, batch=batch), fuse=fuse) for name in names]
    except WeightsUnavailableError as error:
        fail(str(error))


def _measured(
    traced: list[TracedNetwork], threads: list[int], rounds: int, device_class: str = ""
) -> list[CostProfile]:
    import sys

    from tqdm import tqdm

    from codec_runtime.split.profile import profile_networks

    if any(count < 1 for count in threads):
        fail("--threads: want 1 or more")
    with tqdm(unit="run", desc="profile", file=sys.stderr, leave=False) as bar:

        def advance(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return profile_networks(traced, threads, rounds, device_class=device_class, progress=advance)


def _profile_of(traced: TracedNetwork, file: Path | None) -> CostProfile:
    return _measured([traced], [1], rounds=9)[0] if file is None else stored_profile(traced, file)


def stored_profile(traced: TracedNetwork, file: Path) -> CostProfile:
    """The profile of that graph in a file of `semcom split profile`; exits with a message without one."""
    from codec_runtime.split.profile import ProfileError, read_profiles

    try:
        stored = read_profiles(file)
    except ProfileError as error:
        fail(str(error))
    for profile in stored:
        if profile.graph == traced.graph.digest:
            return profile
    fail(f"{file}: no profile of {traced.graph.name} in this form (--fuse or --no-fuse as it was measured)")


def scaled(graph: SplitGraph, measured: CostProfile, name: str) -> CostProfile:
    """The measured profile itself, or as it would be on a named device or edge server."""
    from codec_runtime.contract.devices import DEVICES, EDGES, scaled_profile
    from codec_runtime.split.profile import measure_limits

    machines = {**DEVICES, **EDGES}
    if name == measured.device_class:
        return measured
    if name not in machines:
        fail(f"no device or edge server {name!r}; there are {measured.device_class}, {', '.join(machines)}")
    return scaled_profile(measured, graph, measure_limits(measured.threads), machines[name])


def _profile_summary(traced: list[TracedNetwork], profiles: list[CostProfile]) -> dict[str, Any]:
    """JSON-able: a row a profile, and the regression's error where two networks or more were measured."""
    from codec_runtime.split.regression import leave_one_out

    graphs = {network.graph.digest: network.graph for network in traced}
    rows = [
        {
            "network": profile.network, "threads": profile.threads, "batch": profile.batch,
            "graph": profile.graph, "captured": network.captured, "nodes": len(profile.seconds),
            "edges": len(network.graph.edges), "macs": network.graph.macs,
            "parameters": sum(node.parameters for node in network.graph.nodes),
            "sum_ms": 1e3 * sum(profile.seconds), "whole_ms": 1e3 * profile.whole_seconds,
            "spread": profile.error, "rounds": profile.rounds,
        }
        for profile in profiles
        for network in traced
        if network.graph.digest == profile.graph
    ]
    left_out = [
        {"network": left.network, "threads": count, "error": left.error, "node_error": left.node_error,
         "prefix_error": left.prefix_error}
        for count in dict.fromkeys(profile.threads for profile in profiles)
        for left in leave_one_out([(graphs[p.graph], p) for p in profiles if p.threads == count])
    ]
    first = profiles[0]
    return {
        "host": first.host, "cpu": first.cpu, "torch": first.torch, "dtype": first.dtype,
        "measured_at": first.measured_at, "rows": rows, "left_out": left_out,
    }


def _show_profiles(summary: dict[str, Any]) -> None:
    from rich.console import Console, Group
    from rich.table import Table

    table = Table("network", title=f"{summary['cpu']}, torch {summary['torch']}, {summary['dtype']}")
    for name in ("threads", "nodes", "MMAC", "sum ms", "whole ms", "spread"):
        table.add_column(name, justify="right")
    for row in summary["rows"]:
        table.add_row(
            row["network"], str(row["threads"]), str(row["nodes"]), f"{row['macs'] / 1e6:.0f}",
            f"{row['sum_ms']:.2f}", f"{row['whole_ms']:.2f}", f"{row['spread']:.1%}",
        )
    left = Table("left out", title="Predicted from the other networks' layers")
    for name in ("threads", "error of the sum", "of nodes", "of the worst prefix"):
        left.add_column(name, justify="right")
    for row in summary["left_out"]:
        left.add_row(
            row["network"], str(row["threads"]), f"{row['error']:+.1%}", f"{row['node_error']:.1%}",
            f"{row['prefix_error']:.1%}",
        )
    Console().print(Group(table, left) if summary["left_out"] else table)
