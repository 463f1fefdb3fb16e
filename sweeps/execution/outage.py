"""The error for a lost Ray. This module does not import Ray."""

from __future__ import annotations


class RayLostError(BaseException):
    """Ray's head was killed, or its machine failed. The record is complete, and the next start resumes.

    Not an `Exception`: on those Ray Tune asks its workers to end, which takes a minute without the head.
    """
