"""Where randomness comes from, and how files are replaced in one step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdas import seeding
from kdas.errors import UserError
from kdas.files.cache import cache_root, content_id, file_id, replaced_whole, writable_folder, write_text

quickly = settings(max_examples=100)


@quickly
@given(st.integers(0, 2**31), st.text(max_size=8), st.text(max_size=8), st.integers(0, 500), st.integers(0, 500))
def test_seeds_of_different_purposes_or_epochs_differ(
    seed: int, purpose: str, other: str, epoch: int, later: int
) -> None:
    derived = seeding.derived_seed(seed, purpose, epoch)
    assert 0 <= derived < 2**63
    assert (seeding.derived_seed(seed, other, later) == derived) == ((other, later) == (purpose, epoch))
    assert seeding.derived_seed(seed + 1, purpose, epoch) != derived


def test_seeds_are_the_same_in_every_process_and_version() -> None:
    # With another derivation, new curves could not be compared with old ones.
    assert seeding.derived_seed(3, "order", 1) == 6_663_355_537_991_826_857


def test_generators_of_one_purpose_draw_the_same() -> None:
    def draw(*purpose: str | int) -> list[int]:
        return torch.randint(1000, (5,), generator=seeding.generator(1, *purpose)).tolist()

    assert draw("order", 1) == draw("order", 1)
    assert draw("order", 1) != draw("order", 2) and draw("order", 1) != draw("views", 1)


def test_global_draws_are_seeded_inside_and_leave_no_trace_outside() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    with seeding.global_draws(1, "student"):
        first = torch.rand(3)
    assert torch.equal(torch.random.get_rng_state(), before)
    with seeding.global_draws(1, "student"):
        assert torch.equal(torch.rand(3), first)
    with seeding.global_draws(1, "teacher"):
        assert not torch.equal(torch.rand(3), first)


def test_global_draws_leave_no_trace_after_a_failure() -> None:
    def draw_and_fail() -> None:
        with seeding.global_draws(1, "student"):
            torch.rand(1)
            raise RuntimeError("in the middle")

    before = torch.random.get_rng_state()
    with pytest.raises(RuntimeError, match="in the middle"):
        draw_and_fail()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_replaced_file_is_new_when_the_block_ends_and_old_before(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "file.txt"
    write_text(path, "old")
    with replaced_whole(path) as temporary:
        temporary.write_text("new", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "old"
        assert temporary.parent == path.parent
    assert path.read_text(encoding="utf-8") == "new"
    assert list(path.parent.iterdir()) == [path]


def test_failure_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    def write_half(path: Path) -> None:
        with replaced_whole(path) as temporary:
            temporary.write_text("half", encoding="utf-8")
            raise RuntimeError("in the middle")

    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="in the middle"):
        write_half(path)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_failure_while_writing_a_first_file_leaves_none(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="in the middle"), replaced_whole(tmp_path / "file.txt"):
        raise RuntimeError("in the middle")
    assert not list(tmp_path.iterdir())


def test_folder_that_cannot_be_made_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(
        UserError, match=r"^[^\n]*file/folder: cannot be written to: [^\n]*\. Give a folder that you may write to\.$"
    ):
        writable_folder(tmp_path / "file" / "folder")


def test_cache_lies_where_the_variable_says_or_with_the_users_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDAS_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    monkeypatch.delenv("KDAS_CACHE")
    assert cache_root().name == "kdas-sweeps" and cache_root().is_absolute()


@quickly
@given(st.dictionaries(st.text(max_size=5), st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)))
def test_identity_does_not_depend_on_the_order_of_keys(content: dict[str, int | float | str]) -> None:
    backwards = dict(reversed(content.items()))
    assert content_id(backwards) == content_id(content)
    assert content_id({**content, "one more": 1}) != content_id(content)
    assert len(content_id(content)) == 16 and len(content_id(content, length=32)) == 32


def test_file_is_identified_by_its_bytes(tmp_path: Path) -> None:
    for name, text in (("a", "same"), ("b", "same"), ("c", "other")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert file_id(tmp_path / "a") == file_id(tmp_path / "b") != file_id(tmp_path / "c")
