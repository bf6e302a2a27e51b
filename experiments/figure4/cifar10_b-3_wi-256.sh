#!/bin/sh
# Batch size against test accuracy at equal epochs, from scratch on CIFAR-10: the claim of Figure 4 of
# Bachmann, Anagnostidis & Hofmann (2023), "Scaling MLPs: A Tale of Inductive Bias", arXiv 2306.13575v3,
# at a scale that two CPU cores can carry. The paper's figure is about pretraining on ImageNet-21k.
#
# Paper     larger batches are significantly better at every length; values only in the image
# Time      about an hour on 2 CPU cores without bfloat16 in hardware
#
# Chosen here: lr 2e-4 for every batch size (the paper's 5e-5 at width 1024, carried to width 256), no augmentation,
# label smoothing 0.3, 3 seeds, margin 1 percentage point; all defaults of the probe. The precision is the machine's:
# float32 for the result beside this file, bfloat16 where the hardware has it.
set -eu
exec mlptheory probe batchsize --dataset cifar10 --model B-3/Wi-256 --batch-sizes 64 256 1024 4096 \
    --seeds 3 --epochs 5 20 --out "${1:-runs/figure4_cifar10_b-3_wi-256}"
