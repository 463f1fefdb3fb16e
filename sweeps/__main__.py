"""`kdas-sweeps` and `python -m sweeps`: all commands. Those that take several processes are in `command/front.py`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from kdas.errors import UserError, alike, make_command, run_command_line
from kdas.files.home import ensure_home
from sweeps.command import ending, front
from sweeps.command.options import (
    CRASHED_TRIALS,
    INTERRUPTED,
    RAY_LOST,
    UI_PORT,
    Additions,
    AsTrial,
    Best,
    Cluster,
    Data,
    FileFormat,
    LastWeights,
    Method,
    Name,
    OneTrial,
    OutFile,
    OwnCode,
    Port,
    Register,
    ReleaseFile,
    Replays,
    Schedulers,
    Searches,
    Settings,
    Shown,
    Slots,
    StudentFile,
    StudentFolder,
    Surrogate,
    TrialId,
    WarmFrom,
    Yes,
    check_trial_is_given,
    cluster_address,
)
from sweeps.record.paths import CELLS, names_of_cells, recorded_names, runs_root, sweep_path

if TYPE_CHECKING:
    from sweeps.file.spec import SweepSpec
    from sweeps.record.directory import SweepDirectory

app = front.app
# Names may hold what Rich would take for markup.
console = Console(markup=False, emoji=False)


@app.command()
def run(
    name: Name,
    data: Data = None,
    settings: Settings = None,
    add: Additions = None,
    yes: Yes = False,
    cluster: Cluster = None,
) -> None:
    """Run or resume a sweep, without a report."""
    ending.heed_requests()
    ending.end_with_parent()
    if cluster:
        os.environ["RAY_ADDRESS"] = cluster
    if cluster_address():
        from sweeps.execution.probe import check_joins

        check_joins()  # loading the sweep and Ray takes longer
    from sweeps.execution.outage import RayLostError
    from sweeps.tracking import trackers

    trackers.check()
    path, spec, directory = _loaded(name, data, settings)
    from sweeps.file.added import with_added

    spec, added = with_added(spec, add or (), directory)
    from sweeps.record.status import num_crashed
    from sweeps.run import run_cells, run_sweep

    try:
        if spec.cells:
            is_finished = run_cells(spec, path, directory, console, is_agreed=yes)
        else:
            is_finished = run_sweep(spec, path, directory, console, is_agreed=yes, added=added)
    except KeyboardInterrupt:  # before Ray handles it: while reading data, training the teacher or starting Ray
        is_finished = False
    except RayLostError as error:
        _print_whole(f"Ray is gone ({error}). {ending.resume_hint(name, settings)}")
        sys.exit(RAY_LOST)
    if not is_finished:
        _print_whole(f"Interrupted. {ending.resume_hint(name, settings)}")
        sys.exit(ending.exit_code())
    crashed = num_crashed(directory)
    if crashed:
        console.print(
            f"{crashed} trials crashed. See status.json in their folders under {directory.path}. Run the sweep again"
            " to retry them."
        )
        sys.exit(CRASHED_TRIALS)


def _print_whole(text: str) -> None:
    console.print(text, soft_wrap=True, markup=False, highlight=False)


@app.command()
def preview(name: Name, data: Data = None, settings: Settings = None) -> None:
    """Estimate the cost of a sweep without training. Prices that this machine lacks are measured first."""
    path, spec, directory = _loaded(name, data, settings)
    from sweeps.prepare.preview import preview_sweep

    for each, of_each in _each_cell(spec, directory):
        preview_sweep(each, path, of_each, console)


@app.command()
def calibrate(name: Name, data: Data = None, settings: Settings = None) -> None:
    """Measure a sweep's prices again, or show those it has."""
    path, spec, directory = _loaded(name, data, settings)
    from sweeps.prepare.calibration import calibrate_sweep

    for each, of_each in _each_cell(spec, directory):
        calibrate_sweep(each, path, of_each, console)


@app.command()
def status(name: Name) -> None:
    """Show the progress of a sweep."""
    from sweeps.record.directory import SweepDirectory
    from sweeps.record.status import print_status

    beginning = SweepDirectory(sweep_path(name))
    holder = beginning.holder()
    if holder and not beginning.spec_file.exists():
        console.print(f"{holder} and is still preparing data, teacher and prices", highlight=False)
        return
    directory = _existing(name)
    for each in directory.cells() or [directory]:
        print_status(each, console)


@app.command()
def simulate(
    name: Name,
    search: Searches = "tpe,random",
    scheduler: Schedulers = "racing,capping,none",
    slots: Slots = "2",
    replays: Replays = 20,
    surrogate: Surrogate = False,
    warm: WarmFrom = "",
) -> None:
    """Compare searches and schedulers on recorded curves."""
    from sweeps.file.loading import recorded_spec
    from sweeps.prepare.warm_start import others_of
    from sweeps.replay.recorded import load_recording
    from sweeps.replay.simulate import entries_of, settings_of
    from sweeps.replay.simulate import simulate as compare

    directory = _single(name)
    others = others_of(entries_of(warm), Path())
    recording = load_recording(recorded_spec(directory.spec_file), directory)
    settings = settings_of(search, scheduler, slots, is_warm=bool(others))
    compare(recording, surrogate, settings, replays, console, others)


@app.command()
def tables(name: Name) -> None:
    """Rebuild the tables of a sweep from its trials."""
    from sweeps.record.tables import write_tables

    directory = _existing(name)
    for each in [*directory.cells(), directory]:
        write_tables(each)


@app.command()
def check(name: Name) -> None:
    """Verify a sweep's files, and repair what can be repaired."""
    from sweeps.record.check import check_sweep

    directory = _existing(name)
    with directory.locked():  # no sweep may start meanwhile: both would write the same files
        found = check_sweep(directory)
    for finding in found:
        print(finding.text)
    if not all(finding.is_repaired for finding in found):
        raise UserError(f"{directory.path}: is not as it was written; see above.")
    print(f"{directory.path}: {'repaired' if found else 'all files are as they were written'}")


@app.command()
def sync(name: Name, register: Register = None) -> None:
    """Upload to MLflow, or other trackers, what they lack."""
    from sweeps.tracking.follower import sync as sync_with
    from sweeps.tracking.trackers import trackers

    directory = _existing(name)
    has_failed = False
    for each in directory.cells() or [directory]:
        if each.holder():
            console.print(f"{each.name}: the sweep is still running and keeps its trackers up to date.")
            continue
        for tracker, make in trackers().items():
            where, failure = sync_with(each, make)
            has_failed |= bool(failure)
            if failure:
                print(f"{each.name}: {tracker} failed: {failure}", file=sys.stderr)
            else:
                console.print(f"{each.name}: {where}", soft_wrap=True, highlight=False)
        if register:
            from sweeps.mlflow_view.view import register as register_in_mlflow

            print("\n".join(register_in_mlflow(each, register)))
    if has_failed:
        sys.exit(1)


@app.command()
def best(name: Name, method: Method = None) -> None:
    """Print the trial file of a sweep's best configuration."""
    from sweeps.record.winner import trial_file, winner_of

    directory = _single(name)
    print(trial_file(winner_of(directory, method), directory), end="")


@app.command()
def export(
    name: Name,
    trial: OneTrial = None,
    best: Best = False,
    last: LastWeights = False,
    form: FileFormat = "safetensors",
    out: StudentFile = None,
    own_code: OwnCode = False,
    method: Method = None,
) -> None:
    """Write a student of a sweep to a file that other programs read."""
    for option, is_given in (("--best", best), ("--method", method)):
        if trial and is_given:
            raise UserError(f"export: expected --trial or {option}, got both. Leave one out.")
    directory = _single(name)
    from sweeps.record.export import export_student

    print(export_student(directory, trial, form, out, last=last, own_code=own_code, method=method))


@app.command()
def reproduce(name: Name, trial: TrialId, student: StudentFolder = None) -> None:
    """Train one trial of a sweep again, and compare its curve with the recorded one."""
    check_trial_is_given(trial, name, or_student=True)
    directory = _single(name)
    from sweeps.reproduce import reproduce as run_again

    if not run_again(directory, trial, student, console):
        sys.exit(1)


@app.command()
def pause(name: Name) -> None:
    """Let a running sweep start no more trials."""
    from sweeps.command import requests

    _print_whole(requests.pause(_single(name)))


@app.command()
def resume(name: Name) -> None:
    """Let a paused sweep start trials again."""
    from sweeps.command import requests

    _print_whole(requests.resume(_single(name)))


@app.command()
def stop(name: Name, trial: TrialId) -> None:
    """Stop a trial of the search early."""
    check_trial_is_given(trial, name, or_student=False)
    from sweeps.command import requests

    _print_whole(requests.stop(_single(name), trial))


@app.command()
def finish(name: Name, data: Data = None, settings: Settings = None, yes: Yes = False, cluster: Cluster = None) -> None:
    """End the search now, then confirm and report."""
    from sweeps.command import requests
    from sweeps.command.watch import holder

    _print_whole(requests.finish(_single(name)))
    path = sweep_path(name)
    is_cell = path.parent.name == CELLS and path.parent != runs_root()
    if not holder(path.parents[1] if is_cell else path):
        # A cell runs with its sweep.
        front.sweep(path.parents[1].name if is_cell else name, data, settings, None, yes, cluster)


@app.command()
def ui(
    name: Shown = "",
    port: Port = UI_PORT,
) -> None:
    """Serve MLflow's page on 127.0.0.1, and print links."""
    from sweeps.mlflow_view import serving
    from sweeps.mlflow_view.address import embedded_database, is_embedded, is_server, tracking_uri, without_secrets
    from sweeps.record.directory import SweepDirectory

    sweeps = [_existing(name)] if name else [SweepDirectory(sweep_path(each)) for each in recorded_names()]
    sweeps = [each for sweep in sweeps for each in sweep.cells() or [sweep]]
    uri = tracking_uri()
    if is_server(uri):
        address = without_secrets(uri).rstrip("/")
        console.print(f"Runs are on a tracking server: {address}", soft_wrap=True)
        _close_runs_of_killed(sweeps)
        _print_links(sweeps, address)
        return
    if "://" not in uri:
        raise UserError(
            f"MLFLOW_TRACKING_URI={without_secrets(uri)}: expected an address such as http://host:5000 or"
            " sqlite:////data/mlflow.db. Correct it, or unset it to use the embedded database."
        )
    port = serving.free_port(port)
    if is_embedded(uri):
        from sweeps.mlflow_view import embedded

        embedded.ensure(embedded_database())
    ending.heed_requests()
    ending.end_with_parent()
    console.print("Starting MLflow's page ...")
    try:
        _close_runs_of_killed(sweeps)
        with serving.serving(uri, port) as server:
            address = f"http://{serving.HOST}:{port}"
            console.print(f"MLflow's page: {address} (Ctrl-C closes it)")
            found = _print_links(sweeps, address)
            serving.show(found or address)
            server.wait()
            raise UserError("MLflow's page ended by itself. Run make ui again.")
    except KeyboardInterrupt:
        print()
        sys.exit(ending.exit_code() if ending.exit_code() != INTERRUPTED else 0)


def _close_runs_of_killed(sweeps: Sequence[SweepDirectory]) -> None:
    """Upload what killed sweeps left, so that none of their runs appears to be running for ever."""
    from sweeps.mlflow_view import serving

    for directory in serving.left_open(sweeps):
        from sweeps.mlflow_view.view import MlflowView
        from sweeps.tracking.follower import sync as sync_with

        _, failure = sync_with(directory, MlflowView)
        if failure:
            print(f"{directory.name}: some runs were not uploaded ({failure})", file=sys.stderr)


def _print_links(sweeps: Sequence[SweepDirectory], address: str) -> str:
    """Print the prepared links of the sweep that was uploaded last. Returns: the first; empty if there is none."""
    from sweeps.mlflow_view import serving

    directory = serving.newest(sweeps)
    if directory is None:
        return ""
    links = {words: f"{address}/{link}" for words, link in serving.links(directory).items()}
    if not links:
        console.print(f"{directory.name}: no links yet. Write them with: {make_command('sync', directory.name)}")
    for words, link in links.items():
        console.print(f"{directory.name}: {words}: {link}", soft_wrap=True, highlight=False)
    return next(iter(links.values()), "")


@app.command("import")
def import_file(file: ReleaseFile, out: OutFile = None, trial: AsTrial = False) -> None:
    """Translate a config file of the official release."""
    from kdas.parts.yaml_file import read_yaml
    from sweeps.file.translation import translated

    text = translated(read_yaml(file), str(file), as_trial=trial, tell=lambda line: print(line, file=sys.stderr))
    if out is None:
        print(text, end="")
        return
    if out.exists():
        raise UserError(f"{out}: exists. Give --out another file, or remove it.")
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}. Give --out another file.") from error
    command = f"python -m kdas train {out}" if trial else f"make sweep NAME={out}"
    console.print(f"{out} written. Run it: {command}", highlight=False, soft_wrap=True, markup=False)


@app.command()
def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/sweep-file.md instead.")] = False,
    plugin: Annotated[list[str] | None, typer.Option(help="Module with your own parts; may be repeated.")] = None,
) -> None:
    """Print the JSON schema of a sweep file, for editors."""
    from kdas.parts.plugins import require_plugins

    require_plugins(plugin or [], "--plugin")
    if markdown:
        from sweeps.file.page import sweep_file_page

        print(sweep_file_page(), end="")
    else:
        from sweeps.file.schema import sweep_file_schema

        print(json.dumps(sweep_file_schema(), indent=1))


def _single(name: str) -> SweepDirectory:
    """A sweep without cells. Raises: UserError: for one with cells, or none."""
    directory = _existing(name)
    if directory.cells():
        raise UserError(f"{name}: this sweep consists of cells. Name one of them: {', '.join(names_of_cells(name))}.")
    return directory


def _loaded(name: str, data: str | None, settings: Sequence[str] | None) -> tuple[Path, SweepSpec, SweepDirectory]:
    """A sweep's file, its content and its folder. What follows imports torch: most mistakes are told before."""
    from sweeps.file.layers import directory_of, spec_path
    from sweeps.file.loading import load_spec

    path = spec_path(name)
    spec = load_spec(path, data, settings or ())
    from sweeps.file.added import with_recorded
    from sweeps.record.directory import SweepDirectory

    directory = SweepDirectory(directory_of(path))
    spec = with_recorded(spec, directory)
    if spec.has_warm_start:
        from sweeps.prepare.warm_start import with_warm_start

        spec = with_warm_start(spec, directory, path)
    return path, spec, directory


def _each_cell(spec: SweepSpec, directory: SweepDirectory) -> Iterator[tuple[SweepSpec, SweepDirectory]]:
    """The sweep, or each of its cells under a heading."""
    for name, cell in spec.cells.items():
        console.rule(name, align="left")
        yield cell, directory.cell(name)
    if not spec.cells:
        yield spec, directory


def _existing(name: str) -> SweepDirectory:
    from sweeps.record.directory import SweepDirectory

    directory = SweepDirectory(sweep_path(name))
    if not directory.spec_file.exists():
        holder = directory.holder()
        if holder:
            raise UserError(
                f"{directory.path}: {holder} and is still preparing data, teacher and prices. Try again once it trains."
            )
        if directory.measure_file.exists() or (directory.path / "trials").is_dir() or directory.cells():
            raise UserError(
                f"{directory.spec_file}: missing. Restore it from a copy, or run the sweep with its file, which writes"
                f" it again: {make_command('sweep', 'FILE')}."
            )
        from sweeps.file.layers import shipped

        near = alike(name, [*recorded_names(), *shipped()])
        # Whoever gives a path hears of it as it was given: it was taken for the name of a cell.
        where = f"NAME={name}" if "/" in name else directory.path
        if near and near[0] != name:
            raise UserError(f"{where}: no sweep has run here. Did you mean NAME={near[0]}?")
        raise UserError(
            f"{where}: no sweep has run here. Start one with {make_command('sweep', name)}. For your own file,"
            " NAME is its path."
        )
    return directory


def main() -> None:
    """The program's entry point."""
    run_command_line(app, ensure_home)


if __name__ == "__main__":
    main()
