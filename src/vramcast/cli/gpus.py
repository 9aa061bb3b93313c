"""`vramcast gpus`: the hardware file."""

from vramcast.cli.parameters import EXIT_DONE, JsonFlag
from vramcast.cli.showing import print_json
from vramcast.hardware import GPU, all_gpus
from vramcast.units import format_gib


def gpus(*, json: JsonFlag = False) -> int:
    """The GPUs of the hardware file, with the memory their driver reports."""
    if json:
        print_json([gpu.model_dump(mode="json") for gpu in all_gpus()])
        return EXIT_DONE
    from rich.console import Console
    from rich.table import Table

    table = Table("GPU", "architecture", "memory", "GB/s", "bf16 TFLOPS", box=None)
    table.columns[0].no_wrap = True
    for gpu in all_gpus():
        table.add_row(*_row(gpu))
    Console().print(table)
    return EXIT_DONE


def _row(gpu: GPU) -> tuple[str, ...]:
    bandwidth = gpu.memory_bandwidth_bytes_per_second
    speed = "" if bandwidth is None else f"{bandwidth / 1e9:.0f}"
    return gpu.name, gpu.architecture, format_gib(gpu.memory_total_bytes), speed, str(gpu.dense_tflops.bf16 or "")
