"""The open list of probes."""

from mlptheory.base.registry import Registry

probes: Registry = Registry("probe")
probes.register_lazily(
    "batchsize",
    "mlptheory.probes.batchsize:BatchSize",
    summary="Do larger batches generalize better at equal epochs? (Bachmann et al. 2023, Fig. 4)",
)
