#!/bin/sh
# Locality of first-layer filters on CIFAR-10, B-3/Wi-256: 2,500 to 40,000 images, with and without augmentation.
#
# Paper     Bachmann et al. (2023), Figures 10 and 11: pictures of nets pretrained on ImageNet-21k, and no number
# Time      28 minutes planned, 31 taken, on 2 CPU cores (hyperthreads of one) with bfloat16 hardware, shared with other
#           work
#
# Needs the official files of CIFAR-10: `mlptheory data get cifar10`, or set MLPTHEORY_DATA.
#
# Chosen beforehand, at a size that fits the time: sizes, 10 and 20 epochs, 5 seeds; the statistic, the local share of
# W - W0, and its margin are the probe's defaults. Crops of 40 to 100 % of the area, squares, with flips and MixUp 0.8; Lion
# at the paper's rate carried to this width, AdamW at 0.001, tuned for nothing. Nothing was chosen by test accuracy or by a
# statistic of the filters.
set -eu
exec mlptheory probe locality --dataset cifar10 --model B-3/Wi-256 --sizes 2500 10000 40000 \
    --epochs 10 --long-epochs 20 --batch-size 256 --seeds 5 --other-optimizers adamw --other-lrs 0.001 \
    --augmentation.crop-scale 0.4 1 --augmentation.crop-ratio 1 1 --augmentation.shift 0 --augmentation.flip \
    --augmentation.mixup 0.8 --out "${1:-runs/locality_cifar10}"
