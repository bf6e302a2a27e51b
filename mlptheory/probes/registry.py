"""The open list of probes."""

from mlptheory.base.registry import Registry

probes: Registry = Registry("probe")
probes.register_lazily(
    "augmentation",
    "mlptheory.probes.augmentation:Augmentation",
    summary="What does augmentation give an MLP, and is it more than samples? (Bachmann et al. 2023, Table 1)",
)
probes.register_lazily(
    "batchsize",
    "mlptheory.probes.batchsize:BatchSize",
    summary="Do larger batches generalize better at equal epochs? (Bachmann et al. 2023, Fig. 4)",
)
probes.register_lazily(
    "locality",
    "mlptheory.probes.locality:Locality",
    summary="Do first-layer filters become local, and what makes them so? (Bachmann et al. 2023, Figs. 10 and 11)",
)
probes.register_lazily(
    "ntk",
    "mlptheory.probes.ntk:NeuralTangentKernel",
    summary="Are MLPs in the kernel regime? (Jacot et al. 2018, Lee et al. 2019, Chizat et al. 2019, Fort et al. 2020)",
)
probes.register_lazily(
    "permutation",
    "mlptheory.probes.permutation:Permutation",
    summary="Does an MLP know which pixel is where? (Bachmann et al. 2023, Section 1)",
)
probes.register_lazily(
    "sharpness",
    "mlptheory.probes.sharpness:Sharpness",
    summary="Is training at the edge of stability, does sharpness predict generalization? (Cohen et al. 2021, 2022)",
)
probes.register_lazily(
    "transfer",
    "mlptheory.probes.transfer:Transfer",
    summary="Does pretraining transfer, and what of it helps? (Bachmann et al. 2023, Section 4.3, Tables 2 and 6)",
)
