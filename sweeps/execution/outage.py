"""What ends a sweep that is not its fault. It imports no Ray."""

from __future__ import annotations


class RayLostError(BaseException):
    """Ray's head was killed, or its machine is gone. Everything is kept; the next start resumes.

    No `Exception`: at those Ray Tune asks its workers to end, which takes a minute where the head is gone.
    """
