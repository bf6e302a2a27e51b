"""S-MLP and B-MLP of "Scaling MLPs", the plain MLP, and the baselines they are compared with, each built by name."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checkpoint": ["load_model", "save_model"],
        "cnn": ["CNN"],
        "config": ["ModelConfig"],
        "dropout": ["KeyedDropout", "dropout_masks", "set_dropout_key"],
        "factory": ["build", "count_parameters", "model_from_config"],
        "linear": ["Linear"],
        "macs": ["count_macs"],
        "mlp": ["BMLP", "MLP", "SMLP"],
        "multipliers": ["lr_multipliers"],
        "names": ["ParsedName", "models", "parse_name"],
        "resnet": ["ResNet18", "ResNet152"],
        "scale_invariance": ["scale_invariant_parameters"],
        "scaling_mlps": ["export_scaling_mlps", "load_scaling_mlps"],
    },
)
