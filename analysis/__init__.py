"""Reads the curves of a sweep, and says which setting reached the target soonest and how sure that is."""
