"""Which number formats a training takes."""

import pytest
import torch

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")


def test_auto_takes_what_the_processor_has():
    from kd_steps.adapters.yolo.precision import choose_precision

    bf16 = torch.cpu._is_avx512_bf16_supported()
    assert choose_precision("auto", CPU).name == ("bf16" if bf16 else "fp32")
    assert choose_precision("auto", GPU).name == "amp"
    assert choose_precision("fp32", CPU).name == "fp32"


def test_bf16_is_given_or_refused_as_the_processor_says():
    from kd_steps.adapters.yolo.precision import choose_precision

    if torch.cpu._is_avx512_bf16_supported():
        assert choose_precision("bf16", CPU).name == "bf16"
    else:
        with pytest.raises(ValueError, match="this cpu has no bf16 instructions; use auto or fp32"):
            choose_precision("bf16", CPU)


def test_amp_on_a_cpu_is_refused():
    from kd_steps.adapters.yolo.precision import choose_precision

    with pytest.raises(ValueError, match=r"compute\.precision: 'amp' needs a CUDA device; use auto, bf16 or fp32"):
        choose_precision("amp", CPU)


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_forward_pass_is_computed_in_it(name, dtype):
    from kd_steps.adapters.yolo.precision import Precision

    precision = Precision(name, channels_last=True)
    conv, images = torch.nn.Conv2d(3, 4, 1), torch.rand(1, 3, 8, 8)
    with precision.autocast(CPU):
        out = precision.lay_out(conv)(precision.lay_out(images))
    assert out.dtype == dtype
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert not Precision(name, channels_last=False).lay_out(images).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("card", "sound"),
    [
        ("NVIDIA GeForce GTX 1650 Ti", False),
        ("NVIDIA T1000 8GB", False),
        ("Quadro T2000", False),
        ("Tesla K40m", False),
        ("Tesla T4", True),
        ("NVIDIA GeForce RTX 3060", True),
        ("NVIDIA H200", True),
    ],
)
def test_cards_whose_half_precision_is_unsound_are_known(card, sound):
    from kd_steps.adapters.yolo.precision import UNSOUND_HALF

    assert (UNSOUND_HALF.search(card) is None) is sound


def test_device():
    from kd_steps.adapters.yolo.precision import choose_device

    assert choose_device("auto") == ("0" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == "cpu"
    there = torch.cuda.device_count()
    for wanted in (str(there), f"0,{there}", "0,0"):
        with pytest.raises(ValueError, match=rf"compute\.device: '{wanted}', but torch sees {there} GPU"):
            choose_device(wanted)
