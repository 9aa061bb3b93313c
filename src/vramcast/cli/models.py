"""`vramcast models`: the presets."""

from vramcast.cli.parameters import EXIT_DONE, JsonFlag
from vramcast.cli.showing import print_json
from vramcast.models import ModelConfig, load_model, preset_names


def models(*, json: JsonFlag = False) -> int:
    """The presets that ship with vramcast, with their parameters."""
    configs = [load_model(name, offline=True) for name in preset_names()]
    if json:
        print_json(
            [
                {"name": config.name, "parameters": config.parameters, **config.dimensions.model_dump()}
                for config in configs
            ]
        )
        return EXIT_DONE
    from rich.console import Console
    from rich.table import Table

    table = Table("model", "parameters", "layers", "hidden", "heads", "kv heads", "context", box=None)
    for config in configs:
        table.add_row(config.name, f"{config.parameters:,}", *map(str, _sizes(config)))
    Console().print(table)
    return EXIT_DONE


def _sizes(config: ModelConfig) -> tuple[int, ...]:
    sizes = config.dimensions
    return (
        sizes.num_hidden_layers,
        sizes.hidden_size,
        sizes.num_attention_heads,
        sizes.num_key_value_heads,
        sizes.context_length,
    )
