"""Cells of long experiments: stored at once, skipped on a second run, failures named."""

import json

import pytest

from codec_runtime.experiments.cells import CellError, run_cells
from codec_runtime.experiments.results import (
    experiment_result,
    fingerprint,
    shown,
    spread,
    summary,
    write_json,
)


def test_finished_cells_are_not_run_again(tmp_path):
    ran: list[int] = []

    def work(cell: int) -> dict[str, int]:
        ran.append(cell)
        return {"square": cell * cell}

    first = run_cells({"two": 2, "three": 3}, work, tmp_path)
    second = run_cells({"two": 2, "three": 3, "four": 4}, work, tmp_path)
    assert ran == [2, 3, 4]
    assert first == {"two": {"square": 4}, "three": {"square": 9}}
    assert second["four"] == {"square": 16}


def test_a_failing_cell_is_named_and_the_others_are_kept(tmp_path):
    def work(cell: int) -> dict[str, float]:
        return {"inverse": 1 / cell}

    with pytest.raises(CellError, match="zero: ZeroDivisionError"):
        run_cells({"zero": 0, "two": 2}, work, tmp_path)
    assert json.loads((tmp_path / "two.json").read_text()) == {"inverse": 0.5}
    assert not (tmp_path / "zero.json").exists()


@pytest.mark.slow
def test_cells_run_in_processes_and_failures_come_back(tmp_path):
    with pytest.raises(CellError, match="nothing"):
        run_cells({"good": {"mean": 1.0}, "nothing": None}, dict, tmp_path, jobs=2)
    assert json.loads((tmp_path / "good.json").read_text()) == {"mean": 1.0}


def test_an_interrupted_writing_leaves_no_cell(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "cell.json", {"not": object()})
    assert list(tmp_path.iterdir()) == []


def test_results_name_folders_without_their_place():
    config = {"trial": {"images": ("/data/photos/bsds500",), "width": 8}, "weights": "/data/weights"}
    result = experiment_result(
        experiment="schemes", command="semcom", config=config, data_sha256={}, seeds=(1,), rows=[]
    )
    assert result["config"] == {"trial": {"images": ["bsds500"], "width": 8}, "weights": "weights"}
    assert shown({"weights": None}) == {"weights": None}


def test_fingerprint_depends_on_every_setting_and_on_nothing_else():
    one = fingerprint({"width": 8, "seeds": [1, 2]})
    assert one == fingerprint({"seeds": [1, 2], "width": 8})
    assert one != fingerprint({"width": 9, "seeds": [1, 2]})


def test_a_single_value_has_no_spread():
    assert spread([3.0]) is None
    assert summary([1.0, 3.0], 3) == {"mean": 2.0, "spread": 1.414, "per_seed": [1.0, 3.0]}
