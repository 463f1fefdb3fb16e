"""Messages about a bank, and the progress of filling it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from kdas.command.progress import BankProgress
from kdas.compute.device import repeatable
from kdas.files.control_groups import num_cpus
from kdas.teacher.bank.answers import TeacherBank


def announce(bank: TeacherBank, console: Console) -> None:
    """Print where a bank is and how large it may get, before anything is spent on it."""
    shape, path = bank.store.shape, bank.store.path
    console.print(
        f"teacher bank: at most {readable_size(shape.num_bytes)} in {path}, {readable_size(size_on_disk(path))} now;"
        f" about {bank.share_filled():.0%} of the {shape.num_views} views of {bank.num_images:,} images are answered",
        highlight=False,
        soft_wrap=True,
    )


def build_with_progress(
    bank: TeacherBank, console: Console, on_views: Callable[[int], None] = lambda num_done: None
) -> None:
    """Fill a bank. Nothing else runs meanwhile, so the teacher may use all cores.

    Args: on_views: is told the number of views that are answered, time and again.
    """
    repeatable(num_cpus())
    if bank.share_filled() >= 1:
        # Only a damaged record may be missing: there is nothing to wait for.
        bank.build(lambda num_done: None)
    else:
        progress = BankProgress(console, bank.num_images * bank.store.shape.num_views)

        def tell(num_done: int) -> None:
            progress(num_done)
            on_views(num_done)

        bank.build(tell)


def size_on_disk(path: Path) -> int:
    """Bytes that a file takes on disk; the holes of a sparse file take none."""
    # Windows does not report blocks.
    blocks: int | None = getattr(path.stat(), "st_blocks", None)
    return path.stat().st_size if blocks is None else blocks * 512


def readable_size(num_bytes: int) -> str:
    """`1.49 GB`, `23.0 MB`."""
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"
