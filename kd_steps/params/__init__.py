"""The one door of ``params.yaml``: :func:`load_params` reads and checks it, a module a group of sections."""

from kd_steps.params.door import PARAMS_FILE, Params, ParamsError, load_params

__all__ = ["PARAMS_FILE", "Params", "ParamsError", "load_params"]
