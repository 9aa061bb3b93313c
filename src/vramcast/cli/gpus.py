"""`vramcast gpus`: the hardware file."""

from vramcast.cli.parameters import EXIT_DONE, JsonFlag
from vramcast.cli.showing import print_json
from vramcast.hardware import GPU, all_gpus
from vramcast.units import GIB

_LEGEND = (
    "GiB. driver: the total that nvidia-smi prints. CUDA: what a job has to fit into, its context included; "
    "at least: the lowest reading on Linux; ~ worked out from similar cards. "
    "On Windows CUDA offers the driver's total of GeForce cards."
)


def gpus(*, json: JsonFlag = False) -> int:
    """The GPUs of the hardware file: what their driver reports of their memory, and what CUDA offers of it."""
    if json:
        print_json([gpu.model_dump(mode="json") for gpu in all_gpus()])
        return EXIT_DONE
    from rich.console import Console
    from rich.table import Table

    table = Table("GPU", "architecture", "driver", "CUDA", "at least", "GB/s", "bf16 TFLOPS", box=None)
    table.columns[0].no_wrap = True
    for column in table.columns[2:]:
        column.justify = "right"
    for gpu in all_gpus():
        table.add_row(*_row(gpu))
    console = Console()
    console.print(table)
    console.print(f"\n{_LEGEND}", highlight=False)
    return EXIT_DONE


def _row(gpu: GPU) -> tuple[str, ...]:
    bandwidth = gpu.memory_bandwidth_bytes_per_second
    return (
        gpu.name,
        gpu.architecture,
        _gib(gpu.memory_total_bytes),
        ("" if gpu.cuda_total_is_read else "~") + _gib(gpu.cuda_total_bytes),
        "" if gpu.cuda_total_low_bytes == gpu.cuda_total_bytes else _gib(gpu.cuda_total_low_bytes),
        "" if bandwidth is None else f"{bandwidth / 1e9:.0f}",
        str(gpu.dense_tflops.bf16 or ""),
    )


def _gib(nbytes: int) -> str:
    return f"{nbytes / GIB:.2f}"
