"""MLflow: runs, registered versions, weights by address. Nothing else of Retort's pipeline imports it."""
