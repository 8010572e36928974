"""What a person runs beside the pipeline; ``retort`` calls these modules as processes of their own."""
