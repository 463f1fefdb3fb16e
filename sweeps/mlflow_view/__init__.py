"""MLflow as a view of the sweep directory."""

import os

# MLflow reads these when it is imported. No telemetry:
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# No links to runs on the terminal: they would show the password in a server's address.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# No bars while files are uploaded.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# The next pass retries. A repeated request to create a run would create two if only the answer was lost.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
