#!/bin/sh
# The edge of stability and sharpness on the digits: the sharpness probe's default design, tanh and ReLU nets, 8 seeds.
#
# Paper     Cohen et al. (2021, 2022), Dinh et al. (2017), Keskar et al. (2017)
# Time      63 seconds on 2 free CPU cores (hyperthreads of one), with the plan
#
# Rates, steps and the share of wrong labels were chosen while the probe was built, so that the edge is reached and a flow
# stays below it, and seen on seeds of this design too: that it is *reached* here is no finding, that λ stays there is.
# Nothing was chosen by test accuracy.
#
# A step of full batches is an epoch: of their 87,000 training losses the record has those at steps with another look.
set -eu
exec mlptheory probe sharpness --out "${1:-runs/sharpness_digits}"
