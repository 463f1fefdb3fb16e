"""Writers of a bank that are killed within a record, or at any moment: half an answer never counts as an answer."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kdas.teacher.bank import store as store_module
from kdas.teacher.bank.store import HEADER_BYTES, BankStore, Shape, create
from tests.places import ROOT

SHAPE = Shape(num_images=300, num_views=9, num_classes=100, precision="float16")
NUM_KILLS = 20

# A small program that forks a writer for each line that it reads. It loads the store alone, without torch. A `whole`
# writer uses the store. A `torn` writer writes the words of a record one by one, in random order, so it leaves every
# order that a kernel, a disk or a crash might leave. A `cut` writer does the same to one record, and is killed before
# its last word.
WRITERS = """
import importlib.util, os, random, signal, sys
from pathlib import Path
import numpy as np

spec = importlib.util.spec_from_file_location("store", sys.argv[1])
store = sys.modules["store"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(store)
bank, answers = Path(sys.argv[2]), {name: Path(sys.argv[3]) / name for name in ("a", "b")}
shape = store.read_header(bank)[0]
server = os.getpid()


def write_whole(name, draws):
    kept, own = store.BankStore(answers[name], shape), store.BankStore(bank, shape)
    while os.getppid() == server:
        first = draws.randrange(shape.num_records)
        records = np.arange(first, min(first + draws.choice([1, 7, 400]), shape.num_records))
        images, views = np.divmod(np.array(draws.sample(records.tolist(), len(records))), shape.num_views)
        own.write(images, views, kept.read(images, views)[0])


def write_torn(name, draws):
    content, record_bytes = answers[name].read_bytes(), shape.words_per_record * 4
    handle = os.open(bank, os.O_WRONLY)
    while os.getppid() == server:
        place = store.HEADER_BYTES + draws.randrange(shape.num_records) * record_bytes
        for word in draws.sample(range(shape.words_per_record), shape.words_per_record):
            os.pwrite(handle, content[place + 4 * word : place + 4 * word + 4], place + 4 * word)


def write_cut(name, draws):
    content, record_bytes = answers[name].read_bytes(), shape.words_per_record * 4
    place = store.HEADER_BYTES + draws.randrange(shape.num_records) * record_bytes
    words = draws.sample(range(shape.words_per_record), draws.randrange(1, shape.words_per_record))
    handle = os.open(bank, os.O_WRONLY)
    for word in words:
        os.pwrite(handle, content[place + 4 * word : place + 4 * word + 4], place + 4 * word)
    os.kill(os.getpid(), signal.SIGKILL)


signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    kind, name, seed = line.split()
    child = os.fork()
    if not child:
        {"whole": write_whole, "torn": write_torn, "cut": write_cut}[kind](name, random.Random(int(seed)))
        os._exit(0)
    print(child, flush=True)
"""

Start = Callable[[str, str, int], int]
needs_proc = pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc: processes cannot be looked up")


def pairs() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    images, views = np.divmod(np.arange(SHAPE.num_records), SHAPE.num_views)
    return images, views


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BankStore]:
    """Two complete banks, `a` and `b`, with different answers to every pair."""
    folder = tmp_path_factory.mktemp("answers")
    stores = {}
    for seed, name in enumerate("ab"):
        create(folder / name, SHAPE, {})
        stores[name] = BankStore(folder / name, SHAPE)
        size = (SHAPE.num_records, SHAPE.num_classes)
        stores[name].write(*pairs(), np.random.default_rng(seed).normal(scale=5, size=size).astype(np.float32))
    return stores


@pytest.fixture
def bank(tmp_path: Path) -> BankStore:
    create(tmp_path / "the.bank", SHAPE, {})
    return BankStore(tmp_path / "the.bank", SHAPE)


@pytest.fixture
def start(tmp_path: Path, bank: BankStore, answers: dict[str, BankStore]) -> Iterator[Start]:
    """Starts a writer of a kind that writes the answers of a bank; returns its process id."""
    script = tmp_path / "writers.py"
    script.write_text(WRITERS, encoding="utf-8")
    command = [sys.executable, script, store_module.__file__, bank.path, answers["a"].path.parent]
    # OpenBLAS gets one thread, since a process with several threads cannot be forked safely.
    where = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=where) as program:
        assert program.stdin is not None and program.stdout is not None

        def started(kind: str, name: str, seed: int) -> int:
            assert program.stdin is not None and program.stdout is not None
            print(kind, name, seed, file=program.stdin, flush=True)
            return int(program.stdout.readline())

        yield started
        program.stdin.close()
        assert program.wait(timeout=60) == 0


def kill(writers: list[int]) -> None:
    for writer in writers:
        os.kill(writer, signal.SIGKILL)
    wait_for(writers)


def wait_for(writers: list[int]) -> None:
    for writer in writers:
        while Path(f"/proc/{writer}").exists():
            time.sleep(0.001)


def emptied(bank: BankStore) -> None:
    with bank.path.open("r+b") as file:
        file.truncate(HEADER_BYTES)
        file.truncate(SHAPE.num_bytes)


def check(bank: BankStore, right: list[NDArray[np.float32]]) -> None:
    """Assert that every record that reads as valid has exactly the numbers of one of the right ones."""
    read, found = bank.read(*pairs())
    is_right = np.logical_or.reduce([(read == each).all(axis=1) for each in right])
    assert is_right[found].all()


def num_touched(bank: BankStore) -> int:
    words = np.fromfile(bank.path, np.uint32, offset=HEADER_BYTES).reshape(SHAPE.num_records, -1)
    return int(words.any(axis=1).sum())


def cut_records() -> list[int]:
    """The records that `cut` writers with the seeds 0, 1, ... leave half written."""
    return [random.Random(seed).randrange(SHAPE.num_records) for seed in range(NUM_KILLS)]


@needs_proc
@pytest.mark.parametrize("held", ["nothing", "an answer"])
def test_record_whose_writer_is_killed_in_its_middle_is_missing_until_it_is_written_again(
    bank: BankStore, answers: dict[str, BankStore], start: Start, held: str
) -> None:
    old, new = (answers[name].read(*pairs())[0] for name in "ab")
    if held == "an answer":
        bank.write(*pairs(), old)
    wait_for([start("cut", "b", seed) for seed in range(NUM_KILLS)])
    cut = np.array(sorted(cut_records()))
    assert len(set(cut)) == NUM_KILLS
    assert num_touched(bank) == (NUM_KILLS if held == "nothing" else SHAPE.num_records)
    read, found = bank.read(*pairs())
    if held == "nothing":
        assert not found.any()
    else:
        assert np.flatnonzero(~found).tolist() == cut.tolist() and np.array_equal(read[found], old[found])
    images, views = (part[cut] for part in pairs())
    bank.write(images, views, new[cut])
    read, found = bank.read(images, views)
    assert found.all() and np.array_equal(read, new[cut])


@needs_proc
@pytest.mark.parametrize(
    "writers",
    [
        [("whole", "a"), ("whole", "a"), ("whole", "a")],
        [("whole", "a"), ("whole", "b"), ("whole", "b")],
        [("torn", "a"), ("torn", "a"), ("whole", "a")],
        [("torn", "a"), ("torn", "b"), ("torn", "b")],
    ],
    ids=["whole", "whole, two answers", "torn", "torn, two answers"],
)
def test_no_kill_and_no_race_leaves_a_wrong_answer_that_reads_as_valid(
    bank: BankStore, answers: dict[str, BankStore], start: Start, writers: list[tuple[str, str]]
) -> None:
    """What a random kill leaves behind is chance, but whatever reads as valid must be right."""
    right = [answers[name].read(*pairs())[0] for name in sorted({name for _, name in writers})]
    moments = np.random.default_rng(0)
    for number in range(NUM_KILLS):
        if number % 4 == 0:  # so that some kills hit written answers and some hit empty records
            emptied(bank)
        started = [start(kind, name, 100 * number + each) for each, (kind, name) in enumerate(writers)]
        until = time.monotonic() + moments.uniform(0.002, 0.1)
        # On a busy machine a writer may take longer than that to start.
        while time.monotonic() < until or not num_touched(bank):
            check(bank, right)
        kill(started)
        check(bank, right)
