"""The pipeline in Prefect, and the command line."""
