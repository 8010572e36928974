"""Distillation losses: tensors in, one scalar out; zero where student equals teacher, finite without objects."""
