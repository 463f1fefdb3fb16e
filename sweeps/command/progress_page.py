"""The page that shows what `make status` shows, with buttons for what a user may ask of the sweep."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from pathlib import Path

from kdas.command.progress import readable_s
from kdas.errors import UserError
from sweeps.command import requests
from sweeps.record.directory import SweepDirectory
from sweeps.record.paths import CONFIRM
from sweeps.record.status import SweepStatus, UnderWay, counts_of, fastest_word, read_status, words_of

# In place of a cell's name.
_NO_CELL = "-"
_ASKS: dict[str, Callable[[SweepDirectory], str]] = {
    "pause": requests.pause,
    "resume": requests.resume,
    "finish": requests.finish,
}
_STYLE = """
:root { color-scheme: light dark; --soft: #667; --rule: #99a5; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1.5rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.05rem; margin: 1.5rem 0 .3rem; } p { margin: .2rem 0; }
table { border-collapse: collapse; margin: .8rem 0; font-size: .9rem; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--soft); font-weight: 600; } th, td { padding: .25rem 1.2rem .25rem 0; }
td { border-top: 1px solid var(--rule); } form { margin: 1rem 0; } .damage { color: #b00; }
button { font: inherit; padding: .1rem .7rem; margin-right: .4rem; } #said { font-weight: 600; min-height: 1.5em; }
"""
_SCRIPT = """
const form = document.getElementById("ask"), said = document.getElementById("said");
const refresh = async () => {
  try {
    const answer = await fetch("/progress", { cache: "no-store" });
    if (answer.ok) {
      document.getElementById("progress").innerHTML = await answer.text();
      form.hidden = !document.querySelector("#progress button");
    }
  } catch { /* the server is gone; keep the page */ }
};
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const what = event.submitter ? event.submitter.value : "";
  if (!what || (what.startsWith("finish") && !confirm("End the search now?"))) return;
  const body = new URLSearchParams(new FormData(form));
  body.set("what", what);
  try {
    said.textContent = await (await fetch("/ask", { method: "POST", body })).text();
  } catch { said.textContent = "The server is gone."; }
  refresh();
});
const follow = async () => { await refresh(); setTimeout(follow, 2000); };
setTimeout(follow, 2000);
"""


def page(folder: Path, nonce: str) -> str:
    """The whole page. Args: nonce: allows its script."""
    name, shown = html.escape(folder.name), progress(folder)
    # Without buttons a token is good for nothing.
    hidden = "" if "<button" in shown else " hidden"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{name}</title><style>{_STYLE}</style>"
        f"<h1>{name}</h1><div id=progress>{shown}</div>"
        f"<form id=ask{hidden} method=post action=/ask autocomplete=off><label>Token, as the terminal of make watch"
        " shows it: <input name=token type=password required></label></form><p id=said role=status></p>"
        f'<script nonce="{nonce}">{_SCRIPT}</script>'
    )


def progress(folder: Path) -> str:
    """What changes on the page: the status of the sweep, or of each of its cells."""
    directory = SweepDirectory(folder)
    holder = directory.holder()
    if holder and not directory.spec_file.exists():
        return f"<p>{html.escape(holder)} and is still preparing data, teacher and prices.</p>" + _reports(folder)
    cells = directory.cells()
    if not cells:
        return _section(directory, _NO_CELL) + _reports(folder)
    parts = [f"<h2>{html.escape(cell.path.name)}</h2>{_section(cell, cell.path.name)}" for cell in cells]
    return "".join(parts) + _reports(folder)


def ask(folder: Path, what: str) -> str:
    """Do what a button says. Returns: what is done, in a line. Raises: UserError: if it cannot be done."""
    verb, cell, trial_id = (*what.split(" "), "", "")[:3]
    directory = SweepDirectory(folder)
    if cell != _NO_CELL:
        found = [each for each in directory.cells() if each.path.name == cell]
        if not found:
            raise UserError(f"{directory.name}: no cell {cell!r}. Reload the page.")
        directory = found[0]
    if verb == "stop":
        return requests.stop(directory, trial_id)
    if verb not in _ASKS:
        raise UserError(f"{directory.name}: cannot {verb!r}. Reload the page.")
    return _ASKS[verb](directory)


def _section(directory: SweepDirectory, cell: str) -> str:
    try:
        status = read_status(directory)
    except UserError as error:  # a file that the system cannot read
        return f"<p class=damage>{html.escape(str(error))}</p>"
    lines = [counts_of(directory, status), status.state]
    if status.measure is not None:
        lines.append(f"target {status.measure.target:.4f} ({status.measure.target_rule})")
    elif not status.damages:
        lines.append("the target is fixed once plain distillation has finished on every seed")
    lines += words_of(status, directory.name)
    text = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    text += "".join(f"<p class=damage>{html.escape(line)}</p>" for line in status.damages)
    return text + _running(status, cell) + _fastest(status) + _buttons(status, cell)


def _running(status: SweepStatus, cell: str) -> str:
    if not status.under_way:
        return ""

    def row(trial: UnderWay) -> list[str]:
        last = trial.last.row if trial.last else None
        share = f" ({last.cost_ref_s / status.measure.budget_ref_s:.0%})" if last and status.measure else ""
        return [
            html.escape(trial.name),
            f"{last.cost_ref_s:.2f} ref s{share}" if last else "",
            f"{last.val_accuracy:.4f}" if last else "",
            f"{readable_s(trial.age_s)} ago{', stopped?' if trial.is_stale else ''}",
            html.escape(trial.trial_id),
            "stops at its next evaluation"
            if trial.trial_id in status.asked.stopped
            else _button("Stop", "stop", cell, trial.trial_id)
            if status.holder and trial.may_stop
            else "",
        ]

    head = ["running" if status.holder else "interrupted", "cost", "accuracy", "last row", "trial", ""]
    return _table(head, list(map(row, status.under_way)))


def _fastest(status: SweepStatus) -> str:
    if not status.fastest:
        return ""
    seeds = "on fresh seeds" if status.phase == CONFIRM else "on the seeds of the search"
    rows = [
        [
            html.escape(each.name),
            f"{'' if each.num_reached == each.num_seeds else '&gt; '}{each.mean_s:.2f}",
            f"{each.num_reached}/{each.num_seeds}",
            html.escape(each.trial_id),
        ]
        for each in status.fastest
    ]
    return _table([f"{fastest_word(status)}, {seeds}", "mean ref. s", "reached", "a trial of it"], rows)


def _buttons(status: SweepStatus, cell: str) -> str:
    if not status.holder:
        return ""
    switch = _button("Resume", "resume", cell) if status.asked.is_paused else _button("Pause", "pause", cell)
    end = "" if status.asked.finishes else _button("Finish the search", "finish", cell)
    return f"<p>{switch}{end}</p>"


def _button(label: str, *what: str) -> str:
    return f'<button form=ask name=what value="{html.escape(" ".join(what))}">{label}</button>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Args: rows: cells of HTML."""
    lines = [f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows]
    return f"<table><tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>{''.join(lines)}</table>"


def _reports(folder: Path) -> str:
    """Links to the reports that there are."""
    if (folder / "report.html").is_file():
        return '<p><a href="report.html">report</a></p>'
    # The page over all cells is built once two cells have reports.
    cells = [html.escape(report.parent.name) for report in sorted(folder.glob("cells/*/report.html"))]
    links = "".join(f'<p><a href="cells/{cell}/report.html">{cell}</a></p>' for cell in cells)
    directory = SweepDirectory(folder)
    if not any(each.measure_file.exists() for each in [directory, *directory.cells()]):
        return f"<p>No report yet. The target is fixed once the baseline has finished.</p>{links}"
    # The target is fixed, so the next round of `make watch` builds a report.
    return f"<p>No report yet. It is being built.</p>{links}"
