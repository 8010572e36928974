"""Settings that libraries change as they work: how each is read and put back.

No library is imported here: what no test has imported has no state.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Setting:
    """A value that libraries set.

    Attributes:
        module: of the library that holds it; it is read once that has been imported.
        read: gives its value.
        write: puts a value that was read back.
        importer: a library whose import sets it for good; empty for none.
    """

    module: str
    read: Callable[[Any], Any]
    write: Callable[[Any, Any], object]
    importer: str = ""


SETTINGS = {
    "Python's random state": Setting("random", lambda m: m.getstate(), lambda m, value: m.setstate(value)),
    "numpy's random state": Setting(
        "numpy.random", lambda m: m.get_state(legacy=False), lambda m, value: m.set_state(value)
    ),
    "numpy's print options": Setting(
        "numpy", lambda m: m.get_printoptions(), lambda m, value: m.set_printoptions(**value), "ultralytics"
    ),
    "numpy's reaction to errors": Setting("numpy", lambda m: m.geterr(), lambda m, value: m.seterr(**value)),
    "OpenCV's threads": Setting(
        "cv2", lambda m: m.getNumThreads(), lambda m, value: m.setNumThreads(value), "ultralytics"
    ),
    "torch's random state": Setting("torch", lambda m: m.get_rng_state(), lambda m, value: m.set_rng_state(value)),
    "torch's threads": Setting("torch", lambda m: m.get_num_threads(), lambda m, value: m.set_num_threads(value)),
    "torch's default dtype": Setting(
        "torch", lambda m: m.get_default_dtype(), lambda m, value: m.set_default_dtype(value)
    ),
    "torch's deterministic algorithms": Setting(
        "torch",
        lambda m: (m.are_deterministic_algorithms_enabled(), m.is_deterministic_algorithms_warn_only_enabled()),
        lambda m, value: m.use_deterministic_algorithms(value[0], warn_only=value[1]),
    ),
    "torch's gradients": Setting("torch", lambda m: m.is_grad_enabled(), lambda m, value: m.set_grad_enabled(value)),
    "torch's precision of float32 products": Setting(
        "torch", lambda m: m.get_float32_matmul_precision(), lambda m, value: m.set_float32_matmul_precision(value)
    ),
    "torch's oneDNN": Setting(
        "torch", lambda m: m.backends.mkldnn.enabled, lambda m, value: setattr(m.backends.mkldnn, "enabled", value)
    ),
    "torch's cuDNN": Setting("torch", lambda m: cudnn_flags(m), lambda m, value: cudnn_flags(m, value)),
}


def cudnn_flags(torch: Any, values: tuple[bool, ...] | None = None) -> tuple[bool, ...]:
    """Whether cuDNN is on, tries kernels out and is deterministic; sets ``values`` where they are given."""
    names = ("enabled", "benchmark", "deterministic")
    for name, value in zip(names, values or (), strict=values is not None):
        setattr(torch.backends.cudnn, name, value)
    return tuple(getattr(torch.backends.cudnn, name) for name in names)
