#!/bin/sh
# Tangent kernels on CIFAR-10: B-2 of widths 32 to 256, 1,000 and 4,000 images, kernels before, along and after training.
#
# Paper     Jacot et al. (2018), Lee et al. (2019), Chizat et al. (2019), Fort et al. (2020), Atanasov et al. (2022): laws
#           and pictures, no number for MLPs such as these
# Time      44 minutes on 2 CPU cores (hyperthreads of one) shared with other work, in two sittings: one process ran out of
#           memory after 33 minutes, the rest ran alone; the record's planned and taken seconds are those of the second. 74
#           minutes of one thread in all
#
# Needs the official files of CIFAR-10: `mlptheory data get cifar10`, or set MLPTHEORY_DATA.
#
# Chosen beforehand, at a size that fits the time: widths, sizes, 20 epochs, 5 seeds; all margins, the factors on rates and
# logits, and SGD's rate under the NTK parametrization are the probe's defaults. Lion at the paper's rate carried to each
# width, AdamW and SGD at rates tuned for nothing. That all of these train was seen on 1,000 images, 6 epochs, seed 900.
# Nothing was chosen by test accuracy or by a kernel.
set -eu
exec mlptheory probe ntk --dataset cifar10 --model B-2 --widths 32 64 128 256 --sizes 1000 4000 --epochs 20 \
    --batch-size 64 --seeds 5 --other-optimizers adamw sgd --other-lrs 0.001 0.05 --out "${1:-runs/ntk_cifar10}"
