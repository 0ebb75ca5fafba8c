"""The command line ``noma-semcom``."""

from __future__ import annotations

try:
    import typer
except ImportError as error:
    raise ImportError("the command line needs typer and rich: pip install 'noma-semcom-env[cli]'") from error

from noma_semcom_agents.commands.compare import compare
from noma_semcom_agents.commands.demo import demo
from noma_semcom_agents.commands.evaluate import evaluate
from noma_semcom_agents.commands.sweep import sweep
from noma_semcom_agents.commands.tabulate import tabulate
from noma_semcom_agents.commands.train import train
from noma_semcom_agents.commands.transmit import transmit

app = typer.Typer(
    name="noma-semcom",
    help="Semantic communication over uplink NOMA: train and compare agents, and tabulate recoveries.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (demo, train, evaluate, compare, sweep, tabulate, transmit):
    app.command()(command)


if __name__ == "__main__":
    app()
