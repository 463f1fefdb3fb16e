"""`python -m sweeps`: run a sweep, rebuild its tables, update MLflow."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from kdas.errors import UserError, run_command_line
from sweeps.command.options import CRASHED_TRIALS, INTERRUPTED, Cluster, Data, Name, Settings, Yes, check_port
from sweeps.record.paths import names_of_cells, sweep_path

if TYPE_CHECKING:
    from sweeps.record.directory import SweepDirectory

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
console = Console()


@app.command()
def run(
    name: Name,
    data: Data = None,
    settings: Settings = None,
    yes: Yes = False,
    cluster: Cluster = None,
) -> None:
    """Run or resume a sweep."""
    if cluster:
        os.environ["RAY_ADDRESS"] = cluster
    from sweeps.file.layers import spec_path
    from sweeps.file.spec import load_spec
    from sweeps.record.directory import SweepDirectory
    from sweeps.run import num_crashed, run_cells, run_sweep

    path = spec_path(name)
    spec = load_spec(path, data, settings or ())
    directory = SweepDirectory(sweep_path(path.name))
    try:
        is_finished = (run_cells if spec.cells else run_sweep)(spec, path, directory, console, is_agreed=yes)
    except KeyboardInterrupt:  # before Ray handles it: while reading data, training the teacher or starting Ray
        is_finished = False
    if not is_finished:
        with_settings = f' SET="{" ".join(settings)}"' if settings else ""
        console.print(
            f"Interrupted. Finished trials are kept. Resume with: make sweep NAME={name}{with_settings}",
            soft_wrap=True,
            markup=False,
            highlight=False,
        )
        sys.exit(INTERRUPTED)
    crashed = num_crashed(directory)
    if crashed:
        console.print(
            f"{crashed} trials crashed. See status.json in their folders under {directory.path}. Run the sweep again"
            " to retry them."
        )
        sys.exit(CRASHED_TRIALS)


@app.command()
def preview(name: Name, data: Data = None, settings: Settings = None) -> None:
    """Estimate the cost of a sweep without training."""
    from sweeps.file.layers import spec_path
    from sweeps.file.spec import load_spec
    from sweeps.prepare.preview import preview_sweep
    from sweeps.record.directory import SweepDirectory

    path = spec_path(name)
    spec = load_spec(path, data, settings or ())
    directory = SweepDirectory(sweep_path(path.name))
    for cell, of_cell in spec.cells.items():
        console.rule(cell, align="left")
        preview_sweep(of_cell, path, directory.cell(cell), console)
    if not spec.cells:
        preview_sweep(spec, path, directory, console)


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
    search: Annotated[str, typer.Option(help="Search algorithms to compare, separated by commas.")] = "tpe,random",
    scheduler: Annotated[str, typer.Option(help="Schedulers to compare, separated by commas.")] = "capping,none",
    slots: Annotated[str, typer.Option(help="Numbers of trials at once, separated by commas.")] = "2",
    replays: Annotated[int, typer.Option(min=1, help="Replays of each combination.")] = 20,
    surrogate: Annotated[
        bool, typer.Option("--surrogate", help="Interpolate between configurations with a fitted model.")
    ] = False,
) -> None:
    """Compare searches and schedulers on recorded curves."""
    from sweeps.file.spec import recorded_spec
    from sweeps.replay.recorded import load_recording
    from sweeps.replay.simulate import settings_of
    from sweeps.replay.simulate import simulate as compare

    directory = _existing(name)
    if directory.cells():
        raise UserError(f"{name}: this sweep consists of cells. Name one of them: {', '.join(names_of_cells(name))}.")
    recording = load_recording(recorded_spec(directory.spec_file), directory)
    compare(recording, surrogate, settings_of(search, scheduler, slots), replays, console)


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
    if holder := directory.holder():
        raise UserError(f"{directory.path}: {holder}. Check it when it has ended.")
    found = check_sweep(directory)
    for finding in found:
        print(finding.text)
    if not all(finding.is_repaired for finding in found):
        raise UserError(f"{directory.path}: is not as it was written; see above.")
    print(f"{directory.path}: {'repaired' if found else 'all files are as they were written'}")


@app.command()
def attach(name: Name) -> None:
    """Upload the report and missing runs to MLflow."""
    from sweeps.mlflow_view.state import TrackingState

    directory = _existing(name)
    if directory.holder():
        console.print("The sweep is still running and keeps MLflow up to date.", highlight=False)
        return
    state = TrackingState(directory)
    if not state.is_attached:
        from sweeps.mlflow_view.follower import failure_text
        from sweeps.mlflow_view.view import MlflowView

        try:
            MlflowView(directory).attach()
        except Exception as error:  # noqa: BLE001 (whatever the server does, the sweep is complete)
            print(f"MLflow at {state.uri} failed: {failure_text(error)}", file=sys.stderr)
            sys.exit(1)
    console.print(f"runs in MLflow: {state.uri} (make ui opens them)", soft_wrap=True, highlight=False)


@app.command()
def ui(port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 5000) -> None:
    """Serve MLflow's page on 127.0.0.1."""
    from sweeps.mlflow_view.state import tracking_uri

    uri = tracking_uri()
    if uri.startswith(("http://", "https://")):
        console.print(f"Runs are on a tracking server. Open {uri}", highlight=False, soft_wrap=True)
        return
    check_port(port)
    console.print(f"MLflow's page: http://127.0.0.1:{port} (Ctrl-C closes it)", highlight=False)
    arguments = ["ui", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *arguments])


@app.command()
def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/sweep-file.md instead.")] = False,
    plugin: Annotated[list[str] | None, typer.Option(help="Module with your own parts; may be repeated.")] = None,
) -> None:
    """Print the JSON schema of a sweep file, for editors."""
    from kdas.parts.plugins import load_plugins

    try:
        load_plugins(plugin or [])
    except ValueError as error:
        raise UserError(f"--plugin {error}.") from error
    if markdown:
        from sweeps.file.page import sweep_file_page

        print(sweep_file_page(), end="")
    else:
        from sweeps.file.schema import sweep_file_schema

        print(json.dumps(sweep_file_schema(), indent=1))


def _existing(name: str) -> SweepDirectory:
    from sweeps.record.directory import SweepDirectory

    directory = SweepDirectory(sweep_path(name))
    if not directory.spec_file.exists():
        holder = directory.holder()
        if holder:
            raise UserError(
                f"{directory.path}: {holder} and is still preparing data, teacher and prices. Try again once it trains."
            )
        raise UserError(
            f"{directory.path}: no sweep has run here. Start one with make sweep NAME={name}. For your own file,"
            " NAME is its path."
        )
    return directory


def main() -> None:
    """The program's entry point."""
    run_command_line(app)


if __name__ == "__main__":
    main()
