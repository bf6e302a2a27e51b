#!/bin/sh
# Permuted pixels on CIFAR-10: B-3/Wi-256 beside CNN-3/Wi-16 on 5,000 images; S-2 and B-2/Wi-128 in lockstep.
#
# Paper     Bachmann et al. (2023), Section 1, say it of any fixed permutation and give no number
# Time      42 minutes planned, 49 taken, on 2 CPU cores (hyperthreads of one) with bfloat16 hardware, shared with other
#           work
#
# Needs the official files of CIFAR-10: `mlptheory data get cifar10`, or set MLPTHEORY_DATA.
#
# Chosen beforehand, at a size that fits the time: 5,000 images, 20 epochs, 12 seeds, margin and effect 1 percentage point.
# With 12 seeds an equivalence within 1 point has 90 % power where the spread over seeds is at most 0.87. Crops of 40 to
# 100 % of the area, squares, with flips and MixUp 0.8; learning rates are the paper's, carried to the widths. Nothing was
# chosen by test accuracy.
set -eu
exec mlptheory probe permutation --dataset cifar10 --model B-3/Wi-256 --baseline CNN-3/Wi-16 --n 5000 \
    --epochs 20 --batch-size 256 --seeds 12 --margin 1 --effect 1 \
    --augmentation.crop-scale 0.4 1 --augmentation.crop-ratio 1 1 --augmentation.shift 0 --augmentation.flip \
    --augmentation.mixup 0.8 --exact-models S-2/Wi-128 B-2/Wi-128 --exact-seeds 4 --shuffles 1 \
    --out "${1:-runs/permutation_cifar10}"
