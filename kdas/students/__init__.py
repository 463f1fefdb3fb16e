"""Trained students: kept, loaded, exported, shown images."""
