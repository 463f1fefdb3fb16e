from __future__ import annotations

import pytest

from kdas.parts.hints import meant_value, unknown_key

KNOWN = ["epochs", "optimizer", "teacher", "seeds", "scheduler"]
PLACES = [
    "epochs",
    "optimizer.learning_rate",
    "optimizer.schedule",
    "teacher.seed",
    "teacher.optimizer.learning_rate",
    "loss.temperature",
    "sampler.start_rate",
    "search.start_rate",
    "loss.direction",
    "algorithm.name",
]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("epohcs", "unknown key. Did you mean epochs?"),
        ("EPOCHS", "unknown key. Did you mean epochs?"),
        ("learning_rate", "unknown key. Write it under optimizer: optimizer.learning_rate."),
        ("lr", "unknown key. Write it under optimizer: optimizer.learning_rate."),
        ("tau", "unknown key. Write it under loss: loss.temperature."),
        ("START_RATE", "unknown key. Write it as sampler.start_rate or search.start_rate."),
        ("teacher.lr", "unknown key. Write it under teacher.optimizer: teacher.optimizer.learning_rate."),
        ("optimizer.epochs", "unknown key. Write it at the top level: epochs."),
        ("schedule", "unknown key. Did you mean scheduler? Or write it as optimizer.schedule."),
        ("seed", "unknown key. Did you mean seeds? Or write it as teacher.seed."),
        ("teacher.epoch_size", "unknown key. Known: model, momentum."),
        ("teacher.name", "unknown key. Known: model, momentum."),
        ("objective.direction", "unknown key. Known: model, momentum."),
        ("optimizer.modem", "unknown key. Did you mean model?"),
        ("colour", "unknown key. Known: epochs, optimizer, scheduler, seeds, teacher."),
        ("epochs\u00a0", "contains an invisible character (no-break space). Write epochs."),
        ("\u200bepochs", "contains an invisible character (zero width space). Write epochs."),
    ],
)
def test_unknown_key_is_told_its_place(key: str, message: str) -> None:
    known = KNOWN if "." not in key else ["model", "momentum"]
    assert unknown_key(key, known, PLACES) == message


@pytest.mark.parametrize(
    ("name", "meant"),
    [("min", "low"), ("max", "high"), ("values", "choices"), ("upper", "high"), ("options", "choices")],
)
def test_words_of_other_programs_for_a_range_are_understood(name: str, meant: str) -> None:
    known = ["low", "high", "log", "step", "choices", "when"]
    assert unknown_key(f"search.start_rate.{name}", known, PLACES) == f"unknown key. Did you mean {meant}?"


def test_key_of_the_top_level_is_not_taken_for_one_that_shares_letters_with_it() -> None:
    assert (
        unknown_key("a.teacher", ["search", "loss"], ["teacher"]) == "unknown key. Write it at the top level: teacher."
    )


def test_long_list_of_keys_is_not_printed() -> None:
    known = [f"key_number_{number}" for number in range(20)]
    assert unknown_key("zzz", known, known) == "unknown key. Remove it; docs/sweep-file.md lists all keys."


@pytest.mark.parametrize(
    ("value", "expected", "hint"),
    [
        ("0,3", "a number", "Write 0.3, with a point."),
        ("1,000", "a whole number", "Write 1000."),
        ("1.000.000", "a whole number", "Write 1000000."),
        ("64,128", "a whole number", ""),
        ("-1,5", "a number", "Write -1.5, with a point."),
        ("1_000", "a whole number", "Write 1000."),
        ("12 000 000", "a whole number", "Write 12000000."),
        ("1:30", "a number", "1:30 is text, not a time; in hours it is 1.5."),
        ("2026-01-31", "a whole number", "2026-01-31 is text, not a date."),
        ("60%", "a number", "Write 0.6."),
        ("3\u00a0", "a whole number", "It contains an invisible character (no-break space); write 3."),
        ("yes", "true or false", "yes is text; write true."),
        ("Off", "true, false or a mapping", "Off is text; write false."),
        ("1, 2, 3", "a whole number or a list", "Write [1, 2, 3]."),
        ("1,3,5,10", "a list", "Write [1, 3, 5, 10]."),
        ("1,000", "a whole number or a list", "Write 1000."),
        ("2h", "a number", "Write a number without a unit."),
        ("30 min", "a number", "Write a number without a unit."),
        ("1.5GB", "a whole number", "Write a number without a unit."),
        ("maybe", "true or false", ""),
        ("twelve", "a whole number", ""),
        (3.5, "a whole number", ""),
        ("x", "text", ""),
    ],
)
def test_value_is_told_as_it_was_probably_meant(value: object, expected: str, hint: str) -> None:
    assert meant_value(value, expected) == hint
