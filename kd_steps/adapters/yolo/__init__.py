"""Ultralytics: the only package of Retort that imports it."""
