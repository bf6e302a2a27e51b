#!/bin/sh
# What augmentation gives an MLP on CIFAR-10: B-3/Wi-256 beside CNN-3/Wi-16 on 2,500 to 10,000 images.
#
# Paper     Bachmann et al. (2023), Table 1: 12 to 18 points between 100 epochs without and 1000 or 5000 with augmentation,
#           S-6 and B-6/Wi-1024 on all 50,000 images; no number of theirs is one of this design
# Time      1 hour 29 minutes on 2 CPU cores (hyperthreads of one) that other work shared; 79 minutes were planned
#
# Needs the official files of CIFAR-10: `mlptheory data get cifar10`, or set MLPTHEORY_DATA.
#
# Chosen beforehand, at a size that fits the time: sizes, 20 epochs, 6 seeds, margin 1 percentage point. Crops of 40 to
# 100 % of the area, squares, flips, MixUp 0.8, cyclic shifts by up to 4 pixels. Four learning rates, 0.06 to 2 times the
# paper's carried to the width, tuned for every arm on 2,000 held-out training images. Nothing was chosen by test accuracy.
set -eu
exec mlptheory probe augmentation --dataset cifar10 --model B-3/Wi-256 --baseline CNN-3/Wi-16 --flip \
    --sizes 2500 5000 10000 --crop-scale 0.4 1 --shift 4 --epochs 20 --shuffled-epochs 40 --batch-size 128 \
    --lr-grid 0.06 0.2 0.6 2 --tuning-seeds 1 --validation 2000 --seeds 6 --margin 1 --control-runs 1 \
    --out "${1:-runs/augmentation_cifar10}"
