"""The teacher bank: what a frozen teacher says about a view of an image, asked once for all trials."""

from kdas.bank.answers import EpochAnswers, TeacherBank
from kdas.bank.opening import bank_path, bank_precision, banks_root, open_bank
from kdas.bank.store import read_header

__all__ = ["EpochAnswers", "TeacherBank", "bank_path", "bank_precision", "banks_root", "open_bank", "read_header"]
