#!/bin/sh
# What augmentation gives an MLP on at most 40 digits: the augmentation probe's default design.
#
# Paper     Bachmann et al. (2023), Table 1, on CIFAR-10; no number of theirs is one of this design
# Time      85 seconds on 2 free CPU cores (hyperthreads of one), with the plan
#
# Learning rates are tuned on held-out training examples. Nothing was
# chosen by test accuracy.
set -eu
exec mlptheory probe augmentation --out "${1:-runs/augmentation_digits}"
