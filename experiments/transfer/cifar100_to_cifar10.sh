#!/bin/sh
# Transfer from CIFAR-100 to CIFAR-10, B-3/Wi-256: 20,000 images to pretrain on, 5,000 to fine-tune and probe on.
#
# Paper     Bachmann et al. (2023), Section 4.3, Tables 2 and 6, Figure 4: all pretrained on ImageNet-21k, so no number of
#           theirs is one of this design
# Time      about 30 minutes of one free CPU core with bfloat16 hardware
#
# Needs the official files of both: `mlptheory data get cifar10`, `mlptheory data get cifar100`, or set MLPTHEORY_DATA.
#
# Chosen beforehand, at a size that fits the time: numbers of images, two lengths, two batch sizes, 5 seeds, 10 epochs of
# fine-tuning, 20 of the probe, margin 1 percentage point. Crops of 40 to 100 % of the area, squares, with flips, are those
# of the authors' fine-tuning; learning rates of fine-tuning are the paper's, that of pretraining is the paper's carried to
# this width. The probe's, 1e-4, had the highest accuracy of 1e-5, 1e-4 and 5e-4 on 2,000 held-out training images of
# CIFAR-10 for one body; the paper's is 1e-5, for more steps. Nothing was chosen by test accuracy.
set -eu
exec mlptheory probe transfer --source cifar100 --target cifar10 --model B-3/Wi-256 --source-n 20000 --target-n 5000 \
    --batch-sizes 128 1024 --lengths 2 8 --seeds 5 --margin 1 \
    --augmentation.crop-scale 0.4 1 --augmentation.flip \
    --finetuning-augmentation.crop-scale 0.4 1 --finetuning-augmentation.flip \
    --finetuning-epochs 10 --finetuning-batch-size 64 --probing-epochs 20 --probing-batch-size 64 --probing-lr 1e-4 \
    --tta-crop-scale 0.4 1 --tta-flip --control-runs 1 --shuffles 1 --workers 1 \
    --out "${1:-runs/transfer_cifar100_to_cifar10}"
