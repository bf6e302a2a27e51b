#!/bin/sh
# Batch size on CIFAR-10, MLP against CNN: B-3/Wi-256 and CNN-2/Wi-16 on 5,000 training examples, 10 epochs.
#
# Paper     Bachmann et al. (2023), Section on batch size: larger batches are better for MLPs, unlike for CNNs
# Time      16 minutes on 2 CPU cores (hyperthreads of one) with bfloat16 hardware, shared with other work; 7 were planned
#
# Needs the official files of CIFAR-10: `mlptheory data get cifar10`, or set MLPTHEORY_DATA.
#
# Chosen beforehand, at a size that fits: one length, 5 seeds, a coarse grid (a factor of 4) with 1 tuning seed. No paper
# has a learning rate for this CNN: 2e-3 is the middle of its grid.
set -eu
exec mlptheory probe batchsize --dataset cifar10 --model B-3/Wi-256 --cnn CNN-2/Wi-16 --cnn-lr 2e-3 --n 5000 \
    --validation 5000 --batch-sizes 32 128 512 --lengths 10 --seeds 5 --lr-policies fixed tuned \
    --lr-grid 0.03125 0.125 0.5 2 8 --tuning-seeds 1 --curvature-seeds 0 --target-accuracy None --no-control \
    --out "${1:-runs/batchsize_cifar10_cnn}"
