"""Reads the curves of a sweep and reports which setting reached the target fastest, and how certain that is."""
