"""The rows of gpus.toml, and how a GPU is found by name."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramcast.errors import InputError, UnknownGPUError
from vramcast.hardware import GPU, all_gpus, custom_gpu, find_gpu
from vramcast.units import GIB, MIB

ROWS = pytest.mark.parametrize("gpu", all_gpus(), ids=lambda gpu: gpu.name)


@ROWS
def test_row_is_sourced_and_in_range(gpu: GPU) -> None:
    assert gpu.source.startswith("https://")
    assert gpu.date is not None and datetime.date(2026, 1, 1) <= gpu.date
    assert 4 * GIB < gpu.memory_total_bytes < 300 * GIB
    assert gpu.memory_total_bytes % MIB == 0
    assert gpu.cuda_total_low_bytes <= gpu.cuda_total_bytes <= gpu.cuda_total_high_bytes <= gpu.memory_total_bytes
    assert gpu.cuda_total_source
    assert gpu.multiprocessor_count is not None and 10 <= gpu.multiprocessor_count <= 304
    assert gpu.memory_bandwidth_bytes_per_second is not None
    assert 160 * 10**9 < gpu.memory_bandwidth_bytes_per_second < 10**13
    assert (gpu.compute_capability is not None) == (gpu.vendor == "nvidia")
    assert gpu.verified in ("driver", "datasheet")


@ROWS
def test_rates_are_ordered_as_hardware_is(gpu: GPU) -> None:
    rates = gpu.dense_tflops.model_dump(exclude_none=True)
    ladder = [rates[dtype] for dtype in ("fp32", "tf32", "bf16", "fp8", "fp4") if dtype in rates]
    assert ladder == sorted(ladder)
    assert rates["fp32"] <= rates.get("fp16", rates["fp32"])
    if gpu.vendor == "nvidia" and gpu.compute_capability is not None:
        # bf16 and tf32 came with Ampere, fp8 with Ada and Hopper, fp4 with Blackwell.
        assert ("bf16" in rates) == ("tf32" in rates) == (gpu.compute_capability >= (8, 0))
        assert ("fp8" in rates) == (gpu.compute_capability >= (8, 9))
        assert ("fp4" in rates) == (gpu.compute_capability >= (10, 0))


@ROWS
def test_driver_total_is_at_most_the_size_in_the_name(gpu: GPU) -> None:
    for word in gpu.name.split("-"):
        if word.endswith("gb") and gpu.verified == "driver":
            assert gpu.memory_total_bytes <= int(word.removesuffix("gb")) * GIB


@pytest.mark.parametrize(
    ("name", "dense_bf16", "with_sparsity"),
    [
        ("h100-sxm", 989.4, 1979),
        ("a100-80gb", 312, 624),
        ("l4", 121, 242),
        ("rtx-4090", 165.2, 330.4),
        ("b200", 2250, 4500),
    ],
)
def test_no_rate_is_the_sparse_one(name: str, dense_bf16: float, with_sparsity: float) -> None:
    rate = find_gpu(name).dense_flops_per_second("bf16")
    assert rate == round(dense_bf16 * 1e12)
    assert rate < 0.6 * with_sparsity * 1e12


@pytest.mark.parametrize(
    ("name", "mib"),
    [
        ("h100-sxm", 81559),
        ("a100-80gb", 81920),
        ("a100-40gb", 40960),
        ("l40s", 46068),
        ("a10", 23028),
        ("l4", 23034),
        ("t4", 15360),
        ("rtx-3090", 24576),
        ("rtx-4090", 24564),
        ("rtx-3060-12gb", 12288),
        ("rtx-5090", 32607),
        ("h200", 143771),
        ("b200", 183359),
    ],
)
def test_capacity_is_what_nvidia_smi_prints(name: str, mib: int) -> None:
    gpu = find_gpu(name)
    assert gpu.memory_total_bytes == mib * MIB
    assert gpu.verified == "driver"


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA A100 80GB PCIe", "a100-80gb-pcie"),
        ("NVIDIA GeForce RTX 3090", "rtx-3090"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("Tesla V100-SXM2-16GB", "v100-16gb"),
        ("h100", "h100-sxm"),
        ("A100", "a100-80gb"),
        ("4090", "rtx-4090"),
        ("rtx 4090", "rtx-4090"),
        ("RTX_4090", "rtx-4090"),
        ("GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA Tesla T4", "t4"),
        ("MI300X", "mi300x"),
    ],
)
def test_find_gpu_by_any_spelling(spelling: str, name: str) -> None:
    assert find_gpu(spelling).name == name


@pytest.mark.parametrize(
    "guide_name",
    [
        "GTX 1060 (6GB)",
        "RTX 2060 (8GB)",
        "RTX 3060 (12GB)",
        "RTX 3070",
        "RTX 3070 Ti",
        "GTX 1070",
        "RTX 3080 (10GB)",
        "RTX 3090 (24GB)",
        "RTX 4090 (24GB)",
        "A100 (40GB)",
        "A100 (80GB)",
    ],
)
def test_cards_of_the_training_guide_are_known(guide_name: str) -> None:
    gpu = find_gpu(guide_name)
    size = guide_name.rpartition("(")[2].removesuffix("GB)")
    if size.isdigit():
        assert gpu.memory_total_bytes == pytest.approx(int(size) * GIB, rel=0.01)


def test_no_spelling_means_two_cards() -> None:
    for gpu in all_gpus():
        for spelling in (gpu.name, *gpu.aliases):
            assert find_gpu(spelling) is gpu


@pytest.mark.parametrize(
    ("spelling", "name", "multiprocessors", "mib"),
    [
        ("RTX 3060 Ti", "rtx-3060-ti", 38, 8192),
        ("RTX 3080 Ti", "rtx-3080-ti", 80, 12288),
        ("RTX 3080 (12GB)", "rtx-3080-12gb", 70, 12288),
        ("RTX 3090 Ti", "rtx-3090-ti", 84, 24564),
        ("RTX 3050", "rtx-3050", 20, 8192),
        ("GTX 1080", "gtx-1080", 20, 8192),
        ("RTX 4060", "rtx-4060", 24, 8188),
        ("RTX 4060 Ti 8GB", "rtx-4060-ti-8gb", 34, 8188),
        ("RTX 4070 Ti", "rtx-4070-ti", 60, 12282),
        ("RTX 4070 SUPER", "rtx-4070-super", 56, 12282),
        ("RTX 4070 Ti SUPER", "rtx-4070-ti-super", 66, 16376),
        ("RTX 4080 SUPER", "rtx-4080-super", 80, 16376),
        ("RTX 5060", "rtx-5060", 30, 8151),
        ("RTX 5060 Ti", "rtx-5060-ti-16gb", 36, 16311),
        ("RTX 5060 Ti 8GB", "rtx-5060-ti-8gb", 36, 8151),
        ("RTX 5070", "rtx-5070", 48, 12227),
        ("A2000", "rtx-a2000-6gb", 26, 6138),
        ("NVIDIA RTX A2000 12GB", "rtx-a2000-12gb", 26, 12282),
        ("A4500", "rtx-a4500", 56, 20470),
        ("Quadro RTX 8000", "quadro-rtx-8000", 72, 49152),
        ("A800", "a800-80gb", 108, 81920),
        ("H800", "h800-sxm", 132, 81559),
        ("H20", "h20", 78, 97871),
        ("B300", "b300", 148, 275040),
        ("GB10", "gb10", 48, 124610),
    ],
)
def test_cards_people_ask_for_are_known(spelling: str, name: str, multiprocessors: int, mib: int) -> None:
    gpu = find_gpu(spelling)
    assert (gpu.name, gpu.multiprocessor_count, gpu.memory_total_bytes) == (name, multiprocessors, mib * MIB)


def test_unified_memory_says_what_it_means() -> None:
    gpu = find_gpu("dgx spark")
    assert gpu.notes.startswith("Unified memory: the CPU's programs")
    assert gpu.compute_capability == (12, 1)


def test_guide_calls_an_8_gb_card_rtx_2060() -> None:
    assert find_gpu("RTX 2060").memory_total_bytes == 6 * GIB
    assert find_gpu("RTX 2060 12GB").memory_total_bytes == 12 * GIB
    assert find_gpu("RTX 2060 (8GB)").name == "rtx-2060-super"


def test_unknown_gpu_names_the_closest_and_the_way_out() -> None:
    with pytest.raises(UnknownGPUError, match=r"rtx 3095.*closest: rtx-3090.*--gpu custom --gpu-memory 24GiB"):
        find_gpu("rtx 3095")
    with pytest.raises(UnknownGPUError, match=r"`vramcast gpus` lists"):
        find_gpu("")
    with pytest.raises(UnknownGPUError, match=r"add --gpu-memory"):
        find_gpu("custom")


@given(st.text())
def test_find_gpu_answers_or_says_unknown(name: str) -> None:
    try:
        gpu = find_gpu(name)
    except UnknownGPUError:
        return
    assert gpu in all_gpus()


def test_custom_gpu_states_what_it_assumes() -> None:
    gpu = custom_gpu(24 * GIB)
    assert (gpu.memory_total_bytes, gpu.compute_capability, gpu.verified) == (24 * GIB, (8, 0), "user")
    assert "8.0" in gpu.notes
    assert custom_gpu(GIB, (9, 0)).architecture == "hopper"
    with pytest.raises(InputError, match=r"bf16.*no peak rate.*custom"):
        gpu.dense_flops_per_second("bf16")


def test_cards_whose_kernels_are_an_a100s_have_its_multiprocessors() -> None:
    assert find_gpu("h100-sxm").kernel_multiprocessors == 132
    for taken_as_an_a100 in (custom_gpu(24 * GIB), find_gpu("mi300x")):
        assert taken_as_an_a100.kernel_multiprocessors == find_gpu("a100-80gb").multiprocessor_count


@pytest.mark.parametrize("memory", [0, -1, 1 << 60])
def test_custom_gpu_refuses_absurd_memory(memory: int) -> None:
    with pytest.raises(InputError, match=r"gpu_memory=.*24GiB"):
        custom_gpu(memory)


def test_custom_gpu_refuses_unknown_capability() -> None:
    with pytest.raises(
        InputError, match=r"compute_capability='4.2'.*8\.0, 8\.6, 8\.9, 9\.0, 10\.0, 10\.3, 12\.0, 12\.1"
    ):
        custom_gpu(GIB, (4, 2))


def test_missing_rate_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"dtype='fp8'.*a100-80gb; known: fp32, tf32, bf16, fp16, int8"):
        find_gpu("a100-80gb").dense_flops_per_second("fp8")


def test_rows_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        find_gpu("t4").memory_total_bytes = 1  # type: ignore[misc]
