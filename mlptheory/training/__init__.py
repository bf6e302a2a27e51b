"""From a recipe to a trained model: recipe, loop, optimizers, evaluation, checkpoints, cost before a run."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "recipe": [
            "BudgetConfig",
            "DataConfig",
            "OptimizerConfig",
            "Recipe",
            "ScheduleConfig",
            "read_recipe",
        ],
        "observation": ["Observer", "TrainingState", "observers"],
        "loop": ["Trained", "train"],
        "ensemble": ["train_ensemble"],
        "together": ["can_train_together", "together_key"],
        "losses": ["objective"],
        "evaluation": ["Evaluation", "evaluate"],
        "tta": ["TestTimeAugmentation"],
        "examples": ["Examples", "data_digest", "prepare_examples", "training_size"],
        "transfer": ["finetune", "finetuning_recipe", "linear_probe", "probing_recipe"],
        "ridge": ["RidgeProbe", "ridge_probe"],
        "permuted": ["PermutedDeviation", "PermutedTraining", "train_permuted"],
        "setting": ["build_recipe_model"],
        "optimizers": ["build_optimizer", "lr_factor"],
        "budget": ["budget_steps", "recipe_macs", "steps_per_epoch"],
        "cost": ["Cost", "Work", "count_work", "estimate_cost", "planned_work"],
        "device": ["default_device", "has_bfloat16_hardware", "resolve_precision"],
    },
)
