"""A sweep read from an MLflow tracking database: ours, or any other with its names mapped."""

from analysis.mlflow_store.store import Stored, load_store, named, write_store

__all__ = ["Stored", "load_store", "named", "write_store"]
