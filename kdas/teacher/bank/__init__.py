"""The teacher bank: a frozen teacher's answers to views of images, each computed once for all trials."""

from kdas.teacher.bank.answers import EpochAnswers, TeacherBank
from kdas.teacher.bank.opening import bank_precision, open_bank

__all__ = ["EpochAnswers", "TeacherBank", "bank_precision", "open_bank"]
