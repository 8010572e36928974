"""Pure code: arrays, tables and tensors in, values out; no file, clock, global seed or log."""
