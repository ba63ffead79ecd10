"""Route tables: which endpoint a message gets, and which tables are taken."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xapp.ric.rmr import messages
from xapp.ric.rmr.routes import RouteTableReader, TableOutcome, parse_endpoint

ROOT = Path(__file__).parents[2]


def loaded(records: str, *own_names: str) -> RouteTableReader:
    reader = RouteTableReader(own_names)
    assert reader.feed(f"newrt|start|t\n{records}\nnewrt|end\n") == [TableOutcome("t", taken=True)]
    return reader


def test_example_of_the_route_table_guide() -> None:
    text = """newrt | start | rt-0928
        rte | 2000 | logger:30311
        mse | 1000 | 10 | forwarder:43086
        mse | 1000,forwarder:43086 | 10 | app2:43086
        mse | 1000 | -1 | app0:43086,app1:43086; logger:20311
        newrt | end | 4
    """
    reader = RouteTableReader(["elsewhere:1"])
    assert reader.feed(text) == [TableOutcome("rt-0928", taken=True)]
    table = reader.table
    assert table.endpoints(2000, 55, "") == ("logger:30311",)
    assert table.endpoints(1000, 10, "") == ("forwarder:43086",)
    assert [table.endpoints(1000, -1, "") for _ in range(3)] == [
        ("app0:43086", "logger:20311"),
        ("app1:43086", "logger:20311"),
        ("app0:43086", "logger:20311"),
    ]
    assert table.endpoints(1001, -1, "") == ()
    forwarder = RouteTableReader(["forwarder:43086"])
    forwarder.feed(text)
    assert forwarder.table.endpoints(1000, 10, "") == ("app2:43086",)
    assert table.known_endpoints() == {
        "logger:30311", "forwarder:43086", "app0:43086", "app1:43086", "logger:20311",
    }  # fmt: skip


def test_subscription_zero_is_no_wildcard() -> None:
    table = loaded("mse|10|0|zero:1\nmse|10|-1|any:1").table
    assert table.endpoints(10, 0, "") == ("zero:1",)
    assert table.endpoints(10, -1, "") == ("any:1",)
    assert table.endpoints(10, 1, "") == ("any:1",)


def test_nobody_sends_to_himself() -> None:
    table = loaded("rte|10|me:1,other:1;me:1\nrte|11|me:1", "me:1").table
    assert table.endpoints(10, -1, "") == ("other:1",)
    assert table.endpoints(11, -1, "") == ()


def test_owners_outlive_a_new_table_and_change_by_meid_map() -> None:
    reader = loaded("mse|10|-1|%meid")
    assert reader.table.endpoints(10, 3, "gnb") == ()
    assert reader.feed(
        "meid_map|start|m\nmme_ar|e2term:1|gnb enb\nmme_ar|e2term:2|enb\nmeid_map|end|2\n"
    ) == [TableOutcome("m", taken=True)]
    assert reader.table.endpoints(10, 3, "gnb") == ("e2term:1",)
    assert reader.table.endpoints(10, 3, "enb") == ("e2term:2",)
    reader.feed("newrt|start|n\nmse|11|-1|%meid\nnewrt|end\n")
    assert reader.table.endpoints(10, 3, "gnb") == ()
    assert reader.table.endpoints(11, 3, "gnb") == ("e2term:1",)
    reader.feed("meid_map|start\nmme_del|gnb\nmeid_map|end|1|d41d8cd98f00b204e9800998ecf8427e\n")
    assert reader.table.endpoints(11, 3, "gnb") == ()
    assert reader.table.endpoints(11, 3, "enb") == ("e2term:2",)


def test_update_adds_replaces_and_deletes() -> None:
    reader = loaded("mse|10|-1|a:1\nmse|11|4|a:1\nmse|12|-1|a:1")
    assert reader.feed("updatert|start|u\ndel|11|4\nmse|10|-1|b:1\nrte|13|c:1\nupdatert|end|3\n")[0].taken
    assert [reader.table.endpoints(mtype, 4, "") for mtype in (10, 11, 12, 13)] == [
        ("b:1",), (), ("a:1",), ("c:1",),
    ]  # fmt: skip


def test_update_needs_a_table_from_a_manager_first() -> None:
    reader = RouteTableReader()
    reader.feed("newrt|start\nrte|10|a:1\nnewrt|end\n", seed=True)
    assert reader.feed("updatert|start\nrte|10|b:1\nupdatert|end\n") == []
    assert reader.table.endpoints(10, -1, "") == ("a:1",)
    assert any("whole table" in problem for problem in reader.problems)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("newrt|start|x\nrte|10|b:1\nnewrt|end|2\n", "missing table records: expected 2 got 1"),
        ("newrt|start|x\nrte|10|b:1\nnewrt|start|y\n", "table not complete"),
        ("meid_map|start|x\nmme_ar|b:1|gnb\nmeid_map|end|5\n", "missing table records: expected 5 got 1"),
    ],
)
def test_refused_table_leaves_the_old_one(text: str, reason: str) -> None:
    reader = loaded("rte|10|a:1")
    assert reader.feed(text) == [TableOutcome("x", taken=False, reason=reason)]
    assert reader.table.endpoints(10, -1, "") == ("a:1",)
    assert reader.table.owners == {}


def test_table_is_in_force_only_at_its_end() -> None:
    reader = loaded("rte|10|a:1")
    reader.feed("newrt|start|n\nrte|10|b:1\n")
    assert reader.table.endpoints(10, -1, "") == ("a:1",)
    reader.feed("newrt|end\n")
    assert reader.table.endpoints(10, -1, "") == ("b:1",)


@pytest.mark.parametrize(
    "record",
    [
        "rte|x|a:1",
        "rte|10",
        "mse|10|-1",
        "mse|10|one|a:1",
        "rte|10|no-port",
        "mme_ar|nowhere|gnb",
        "hello|1",
        "nonsense|start",
    ],
)
def test_record_that_says_nothing_is_left_out_and_reported(record: str) -> None:
    reader = RouteTableReader()
    outcomes = reader.feed(f"newrt|start\n{record}\nrte|11|a:1\nnewrt|end\n")
    assert outcomes == [TableOutcome("", taken=True)]
    assert len(reader.problems) == 1
    assert record.split("|", maxsplit=1)[0] in reader.problems[0]
    assert set(reader.table.routes) == {(11, -1)}


def test_table_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xapp.ric.rmr.routes.MAX_RECORDS", 3)
    reader = RouteTableReader()
    records = "".join(f"rte|{mtype}|a:1\n" for mtype in range(10, 14))
    outcomes = reader.feed(f"newrt|start|big\n{records}newrt|end\n")
    assert [outcome.taken for outcome in outcomes] == [False]
    assert reader.table.routes == {}


@given(st.lists(st.text("newrtmsdlupa_:;,|%# -01\n\r\t", max_size=60), max_size=8))
def test_any_text_is_read_without_an_exception(lines: list[str]) -> None:
    reader = RouteTableReader(["me:1"])
    reader.feed("newrt|start\n" + "\n".join(lines) + "\nnewrt|end\n")
    for mtype, sub_id in list(reader.table.routes):
        assert all(
            name == "%meid" or parse_endpoint(name) for name in reader.table.endpoints(mtype, sub_id, "")
        )


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [("host.ns:4560", ("host.ns", 4560)), ("10.0.0.1:1", ("10.0.0.1", 1)), ("[fd00::1]:9", ("fd00::1", 9))],
)
def test_endpoint_is_host_and_port(text: str, endpoint: tuple[str, int]) -> None:
    assert parse_endpoint(text) == endpoint


@pytest.mark.parametrize("text", ["host", "host:", ":1", "host:0", "host:65536", "host:x", "host:-1", ""])
def test_text_that_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        parse_endpoint(text)


def test_seed_of_the_descriptor_routes_policy_answers_to_the_mediator() -> None:
    reader = RouteTableReader()
    outcomes = reader.feed((ROOT / "descriptors" / "routes.rt").read_text(), seed=True)
    assert [outcome.taken for outcome in outcomes] == [True]
    assert reader.problems == []
    for mtype in (messages.A1_POLICY_RESP, messages.A1_POLICY_QUERY):
        assert reader.table.endpoints(mtype, -1, "") == ("service-ricplt-a1mediator-rmr.ricplt:4562",)
