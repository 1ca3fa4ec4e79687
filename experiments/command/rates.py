"""What a run would take on accelerators, by what was measured on them: `experiments/bench/results/DEVICE-DATE.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from experiments.command.listing import duration

RESULTS = Path(__file__).parents[1] / "bench" / "results"
EXPECTED = 0.4 * 989e12  # FLOP/s in bfloat16, where none was measured


def measured() -> dict[str, float]:
    """FLOP/s at which a transformer trained, by the name of the file that has it: a device and a date."""
    found = {file.stem: json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))}
    networks = {name: result.get("networks", {}).get("DiT-B", {}) for name, result in found.items()}
    return {
        name: 3 * net["FLOP a row told"] * net["training, rows/s"]
        for name, net in networks.items()
        if "training, rows/s" in net
    }


def elsewhere(chain: Any, generations: int, chains: int) -> dict[str, str]:
    """A line on training by steps, for each device that was measured; or one that says that none was."""
    if not hasattr(chain.model, "advance"):
        return {}
    flops = generations * chains * fit(chain)
    if not (rates := measured()):
        return {
            "on an accelerator": f"{flops:.1e} operations of training, {duration(round(flops / EXPECTED))} at 40 % of "
            "an H100's 989 TFLOP/s; it was not run there, and no rate is measured, which is what `python -m "
            "experiments.bench accelerator` does"
        }
    return {f"on {name}": f"about {flops / rate / 3600:.1f} h of training, not run" for name, rate in rates.items()}


def fit(chain: Any) -> float:
    """FLOPs of the matmuls and convolutions of one fit."""
    import jax

    from simulator.running.work import products

    model = chain.model

    def first(key: Any) -> tuple[Any, Any]:
        state, diet = chain.eat(key, chain.init(key, 1), None)
        return diet, model.begin(key, state.params, diet)

    shapes = jax.eval_shape(first, jax.random.key(0))
    return model.calls * products(jax.make_jaxpr(model.advance)(*shapes))
