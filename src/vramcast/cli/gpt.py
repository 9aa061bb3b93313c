"""`vramcast gpt`: the reference GPT, trained and generated from for real."""

from cyclopts import App

gpt = App(
    name="gpt",
    help="Train a GPT and generate with it, for real, with the forecast beside the measurement.",
    result_action="return_value",
)
gpt.command(
    "vramcast.cli.gpt_train:train",
    name="train",
    help="Train a model on a text: forecast first, then the loop with checkpoints, forecast beside measurement at the end.",
)
gpt.command(
    "vramcast.cli.gpt_generate:generate", name="generate", help="Generate text with a trained model, token by token."
)
