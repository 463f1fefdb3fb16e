"""Trained students: kept, loaded, measured, exported."""

from kdas.students.export import FORMATS, export
from kdas.students.kept import About, BestWeights, read_about, write_student
from kdas.students.predict import predict
from kdas.students.student import Student, load_student

__all__ = [
    "FORMATS",
    "About",
    "BestWeights",
    "Student",
    "export",
    "load_student",
    "predict",
    "read_about",
    "write_student",
]
