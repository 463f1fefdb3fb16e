-- PostgreSQL runs this once, when it creates its files. MLflow keeps its users apart from its runs.
CREATE DATABASE mlflow_auth;
