from __future__ import annotations

from kdas.records import PicksWindow

WINDOWS = [PicksWindow(epoch, [epoch, 2], [0] * 9 + [epoch + 2]) for epoch in (1, 2, 3)]
