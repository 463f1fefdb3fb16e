"""What the sampler picked, relative to what there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.findings.gather import findings
from analysis.page import plots
from analysis.record.picks import confidence_bins, load_picks, relative_shares, shares
from kdas.errors import UserError
from kdas.records import CONFIDENCE_EDGES, PICKS_COLUMNS


def picks_of(method: str, config_id: str, by_class: list[list[int]], seed: int = 0) -> pd.DataFrame:
    """A row a window; confidence follows the first two classes."""
    rows = [
        {"sweep": "digits", "method": method, "phase": "search", "trial_id": f"{config_id}-{seed}",
         "config_id": config_id, "seed": seed, "epoch": epoch, "by_class": counts,
         "by_confidence": [0] * 8 + counts[:2]}
        for epoch, counts in enumerate(by_class, start=1)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(PICKS_COLUMNS))


PLAIN = picks_of("plain_kd", "c-plain", [[100, 100, 200], [100, 100, 200]])


def test_shares_are_over_the_trials_together() -> None:
    both = pd.concat([picks_of("m", "c", [[10, 30, 0]]), picks_of("m", "c", [[20, 20, 0]], seed=1)])
    assert shares(both, "by_class").to_numpy().tolist() == [[30 / 80, 50 / 80, 0]]


def test_relative_shares_are_one_where_everything_is_trained_on() -> None:
    assert relative_shares(PLAIN, PLAIN, "by_class").to_numpy() == pytest.approx(np.ones((2, 3)))


def test_a_class_that_is_picked_twice_as_often_reads_two() -> None:
    picked = picks_of("kdas_paper", "c-paper", [[100, 50, 50], [50, 50, 100]])
    assert relative_shares(picked, PLAIN, "by_class").to_numpy() == pytest.approx(np.array([[2, 1, 0.5], [1, 1, 1]]))


def test_cells_with_too_few_samples_say_nothing() -> None:
    reference = picks_of("plain_kd", "c-plain", [[980, 20, 1000]])
    found = relative_shares(picks_of("m", "c", [[100, 9, 100], [800, 30, 1170]]), reference, "by_class")
    assert np.isnan(found.loc[1, 1]) and found.loc[2, 1] == pytest.approx(1.5)


def test_many_classes_are_grouped_by_their_numbers_and_noise_shows_no_pattern() -> None:
    generator = np.random.default_rng(0)
    reference = picks_of("plain_kd", "c-plain", [[100] * 1000])
    noise = picks_of("rs2", "c-rs2", [generator.multinomial(60_000, [1e-3] * 1000).tolist()])
    found = relative_shares(noise, reference, "by_class", 100)
    assert found.shape == (1, 100) and found.notna().all(axis=None)
    assert abs(found.to_numpy() - 1).max() < 0.15 and abs(np.corrcoef(found.to_numpy()[0], np.arange(100))[0, 1]) < 0.3


def test_ends_of_few_trials_are_no_windows() -> None:
    both = pd.concat([picks_of("m", "c", [[30, 30, 0]] * 3), picks_of("m", "c", [[30, 30, 0]], seed=1)])
    assert shares(both, "by_class").index.tolist() == [1]


def test_bins_are_named_from_their_edges() -> None:
    names = confidence_bins()
    assert len(names) == len(CONFIDENCE_EDGES) + 1
    assert names[0] == "< 0.3" and names[1] == "0.3 to 0.5" and names[-1] == "≥ 0.999"


def test_a_sweep_without_a_record_has_no_rows_and_one_of_another_shape_is_refused(sweep_directory: Path) -> None:
    assert load_picks(sweep_directory).empty
    PLAIN.drop(columns="by_class").to_parquet(sweep_directory / "picks.parquet")
    with pytest.raises(UserError, match=r"picks.parquet: missing columns: by_class"):
        load_picks(sweep_directory)
    (sweep_directory / "picks.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        load_picks(sweep_directory)


def test_trials_that_share_no_window_are_left_out_of_the_figure(sweep_directory: Path) -> None:
    # Both diverged, at different epochs, and each closed its first window there.
    apart = [picks_of("rs2", "c-rs2", [[9, 9, 9]] * epochs, seed).tail(1) for seed, epochs in ((0, 1), (1, 3))]
    kdas = picks_of("kdas_paper", "c-paper", [[100, 50, 50]])
    assert relative_shares(pd.concat(apart), PLAIN, "by_class").empty
    assert relative_shares(kdas, pd.concat(apart), "by_class").empty
    pd.concat([PLAIN, kdas, *apart]).to_parquet(sweep_directory / "picks.parquet")
    found = findings(sweep_directory)
    figure = plots.picked(found.picks, found.summary, found.measure)
    assert {axes.get_title(loc="left") for axes in figure.axes if axes.images} - {""} == {"kdas_paper"}
    only = found.picks[found.picks["method"] == "rs2"]
    assert not any(axes.images for axes in plots.picked(only, found.summary, found.measure).axes)


def test_the_figure_has_two_panels_for_each_method_but_the_baseline(sweep_directory: Path) -> None:
    table = pd.concat(
        [PLAIN, picks_of("kdas_paper", "c-paper", [[100, 50, 50]]), picks_of("rs2", "c-rs2", [[9, 9, 9]])]
    )
    table.to_parquet(sweep_directory / "picks.parquet")
    found = findings(sweep_directory)
    figure = plots.picked(found.picks, found.summary, found.measure)
    panels = [axes for axes in figure.axes if axes.images]
    assert isinstance(figure, Figure) and len(panels) == 4
    assert {axes.get_title(loc="left") for axes in panels} - {""} == {"kdas_paper", "rs2"}
