"""Retort: distil a large YOLO teacher into the small detector a production line can run. `ls` shows the stages."""
