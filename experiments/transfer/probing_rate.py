"""What a linear probe says of pretraining on the digits, by the learning rate of the probe.

Paper     none: a check of the probe that Bachmann et al. (2023), Table 6, measure features by, at one learning rate
Command   python experiments/transfer/probing_rate.py OUT
Time      2 minutes on 2 CPU cores

The transfer probe's default design without its largest batch, its shorter length and its controls, in float32, at three
learning rates of the probe: test accuracy of a probe of the pretrained body (plain, batch size 64, 20 epochs) and of
the untrained one, 8 seeds. Writes ``probing_rate.json`` beside this file; OUT keeps the finished trials.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mlptheory.base.files import write_atomically
from mlptheory.probes import Transfer
from mlptheory.stats import mean_interval

RATES = (3e-4, 1e-3, 3e-3)
RECORD = Path(__file__).with_suffix(".json")


def measure(rate: float, store: str) -> dict[str, Any]:
    """Return accuracies in percent by seed, and the interval of the lead of the pretrained body."""
    probe = Transfer(batch_sizes=(16, 64), lengths=(20,), control=False, precision="float32", probing_lr=rate)
    result = probe.run(store=store)
    table = result.table[result.table["stage"] == "probing"].sort_values("block")
    is_compared = (table["role"] == "run") & (table["arm"] == "plain") & (table["batch_size"] == 64)
    pretrained = 100 * table[is_compared]["test_accuracy"].to_numpy()
    untrained = 100 * table[table["role"] == "untrained"]["test_accuracy"].to_numpy()
    interval = mean_interval(pretrained - untrained)
    return {
        "probing_lr": rate,
        "design": result.design["digest"],
        "seeds": list(probe.seed_list),
        "pretrained": pretrained.tolist(),
        "untrained": untrained.tolist(),
        "lead": {"mean": interval.estimate, "low": interval.low, "high": interval.high, "level": interval.level},
        "data": dict(result.design["data"]),
        "environment": dict(result.environment),
    }


def main() -> None:
    """Measure at every rate, and write the record."""
    if len(sys.argv) != 2:
        sys.exit("usage: python experiments/transfer/probing_rate.py OUT")
    rows = [measure(rate, f"{sys.argv[1]}/store") for rate in RATES]
    write_atomically(RECORD, json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(row["probing_lr"], row["lead"])


if __name__ == "__main__":
    main()
