"""Images in: what a dataset is, where it comes from, splits, augmentation as linear operators, seeded batches."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "augmentation": ["Augmentation"],
        "batch": ["Batch", "BatchShard"],
        "beton": ["open_beton"],
        "beton_writer": ["write_beton"],
        "catalog": ["data_roots", "datasets", "load"],
        "conversion": ["Conversion", "convert"],
        "crops": ["random_resized_crop_boxes"],
        "dataset": ["Dataset"],
        "downloads": ["download"],
        "edges": ["edges_covariance"],
        "image_source": ["ImageSource"],
        "joint": ["JointLoader"],
        "loader": ["Loader"],
        "mixup": ["draw_mixup"],
        "normalization": ["Normalization", "channel_statistics"],
        "operators": [
            "apply_operator",
            "center_crop_matrix",
            "crop_matrix",
            "crop_resize_matrix",
            "flip_matrix",
            "resize_matrix",
            "shift_matrix",
        ],
        "orders": ["quasi_random_order", "random_order"],
        "permutation": ["pixel_permutation"],
        "real_labels": ["read_real_labels"],
        "sharding": ["shard"],
        "splits": ["split_validation", "subset", "with_label_noise", "with_shuffled_labels"],
        "store": ["StoreWriter", "open_store", "verify_store"],
        "teacher": ["teacher_probabilities"],
        "transfer": ["DownloadError"],
    },
)
