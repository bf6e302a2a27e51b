#!/bin/sh
# Transfer between two halves of the digits, 0 to 4 and 5 to 9: the transfer probe's default design.
#
# Paper     Bachmann et al. (2023), Section 4.3, Tables 2 and 6, Figure 4: all pretrained on ImageNet-21k, so no number of
#           theirs is one of this design
# Time      3 minutes of CPU time in all; 3.5 minutes on 2 CPU cores (hyperthreads of one) busy with other work, and the
#           recorded run, on a busier machine, 12
#
# Chosen beforehand: 50 target images, as from-scratch nets learn the half from a few hundred; the probe's learning rate and
# length by accuracy on 250 held-out training images of the target. Nothing was chosen by test accuracy.
set -eu
exec mlptheory probe transfer --out "${1:-runs/transfer_digits}"
