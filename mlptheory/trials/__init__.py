"""A trial and its record, the store that keeps records, the schedule and the executor that runs trials."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "trial": ["STANDARD_OBSERVERS", "Measurement", "Trial"],
        "single": ["run_recipe"],
        "evaluated": ["evaluate_run"],
        "record": ["Record"],
        "store": ["FolderStore", "MemoryStore", "open_store"],
        "fitting": ["require_fitting_data"],
        "grouping": ["group_trials"],
        "schedule": ["Schedule", "plan_schedule", "require_device"],
        "digest": ["Digests", "code_digest", "digest_trials", "trial_digest"],
        "executor": ["WorkerDiedError", "default_workers", "run_trials"],
        "run": ["run_group", "run_trial"],
        "registered": ["MeasureContext", "measures"],
        "environment": ["describe_environment"],
    },
)
