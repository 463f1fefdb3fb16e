"""What the benchmarks share: their image subsets, their short schedules, the table and the line of JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import benchmarks.__main__ as program
from benchmarks import against_reference, limit, memory
from benchmarks.bench import Bench, Figures
from benchmarks.images import balanced, write_subset
from kdas.errors import UserError


def test_subset_holds_the_first_images_of_every_class() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
    assert balanced(labels, 6).tolist() == [0, 1, 4, 5, 7, 8]
    assert balanced(labels, 7).tolist() == [0, 1, 2, 4, 5, 7, 8]
    with pytest.raises(ValueError, match="number: expected at most 10, the size of the set, got 11"):
        balanced(labels, 11)


def test_digits_stand_in_where_there_are_no_photographs(tmp_path: Path) -> None:
    folder = write_subset(tmp_path / "images", None, 40, 20)
    labels = pq.read_table(folder / "train.parquet").column("label").to_pylist()
    assert sorted(labels) == sorted([*range(10)] * 4)
    assert pq.read_table(folder / "test.parquet").num_rows == 20


def test_short_schedules_sample_as_often_as_the_official_one() -> None:
    official = against_reference.sampling_share(against_reference.OFFICIAL_EPOCHS, against_reference.OFFICIAL_PERIODS)
    # Sampling epochs in the four segments of 60 epochs: 60 + 20 + 12 + 6.
    assert official == 98 / 240
    for size in (against_reference.FULL, against_reference.QUICK):
        assert against_reference.sampling_share(size.epochs, size.periods) == pytest.approx(official, abs=0.01)


def test_efficiency_is_that_of_the_worst_student(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> None:
    monkeypatch.setattr(limit, "PAIRS", (("resnet8", "resnet8"), ("resnet14", "resnet8")))
    monkeypatch.setattr(limit, "QUICK", limit.Size(num_train=128, rounds=1))
    figures = limit.limit(bench)
    for kind in ("train", "sampling_epoch"):
        of_each = [figures[f"efficiency_{kind}_{student}"] for student in ("resnet8", "resnet14")]
        assert figures[f"efficiency_{kind}"] == min(of_each) > 0
        ideal_s, real_s = (figures[f"{which}_{kind}_batch_resnet8_s"] for which in ("ideal", "real"))
        assert of_each[0] == pytest.approx(ideal_s / real_s)


def test_both_sides_of_a_comparison_do_the_same_work(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> None:
    monkeypatch.setattr(against_reference, "PAIRS", (("kdas", "resnet8", "resnet8"),))
    figures = against_reference.against_reference(bench)
    assert figures["speedup_kdas_resnet8_resnet8"] > 0
    ratio = figures["kdas_resnet8_resnet8_reference_s"] / figures["kdas_resnet8_resnet8_ours_s"]
    assert figures["speedup_kdas_resnet8_resnet8"] == pytest.approx(ratio)


def test_memory_of_this_process_is_split_by_what_holds_it() -> None:
    figures = memory.measured()
    if "final_rss_mb" in figures:  # on Linux
        assert figures["final_rss_mb"] <= 1.01 * figures["peak_rss_mb"]
        assert figures["final_anonymous_mb"] + figures["final_mapped_mb"] == pytest.approx(figures["final_rss_mb"])
    assert figures["peak_rss_mb"] > 100


def test_last_line_is_json_with_every_figure_and_where_it_was_measured(
    monkeypatch: pytest.MonkeyPatch, drawn_images: Path
) -> None:
    def measure(bench: Bench) -> Figures:
        bench.progress("on it")
        return {"speedup_of_a_thing": 3.0, "a_thing_s": 0.002, "thing_mb": 1234.0}

    monkeypatch.setattr(program, "PARTS", {"thing": program.Part("a thing", measure)})
    monkeypatch.setenv("KDAS_CACHE", "put back afterwards")
    result = CliRunner().invoke(program.app, ["thing", "--data", str(drawn_images), "--precision", "float32"])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout.splitlines()[-1])
    assert printed["speedup_of_a_thing"] == 3.0 and printed["precision"] == "float32"
    assert {"hardware", "torch", "python", "commit", "threads"} <= printed.keys()
    assert "3.00x" in result.stdout and "2.00 ms" in result.stdout and "1,234 MB" in result.stdout
    assert "on it" in result.stderr and "on it" not in result.stdout


def test_unknown_part_is_refused() -> None:
    result = CliRunner().invoke(program.app, ["nothing"])
    assert isinstance(result.exception, UserError)
    assert f"expected one of {', '.join(program.PARTS)}, got 'nothing'" in str(result.exception)
