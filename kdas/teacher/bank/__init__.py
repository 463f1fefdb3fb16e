"""The teacher bank: what a frozen teacher says about a view of an image, asked once for all trials."""

from kdas.teacher.bank.answers import EpochAnswers, TeacherBank
from kdas.teacher.bank.opening import bank_precision, open_bank

__all__ = ["EpochAnswers", "TeacherBank", "bank_precision", "open_bank"]
