#!/bin/sh
# Locality of first-layer filters on the digits, and on textures where it is known: the locality probe's default design.
#
# Paper     Bachmann et al. (2023), Figures 10 and 11: pictures of nets pretrained on ImageNet-21k; Ingrosso & Goldt (2022)
# Time      63 seconds on 2 free CPU cores (hyperthreads of one), with the plan
#
# The control's own settings were tuned on seeds 900 to 902, which no design uses. Nothing was
# chosen by test accuracy.
set -eu
exec mlptheory probe locality --out "${1:-runs/locality_digits}"
