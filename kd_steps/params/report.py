"""What ``params.yaml`` says of the dossier."""

from __future__ import annotations

from kd_steps.params.types import Count, Section


class Report(Section):
    sample_images: Count
    title: str
