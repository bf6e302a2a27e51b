#!/bin/sh
# Tangent kernels on the digits: the ntk probe's default design, B-1 of widths 16 to 128 on 600 digits, 6 seeds.
#
# Paper     Jacot et al. (2018), Lee et al. (2019), Chizat et al. (2019), Fort et al. (2020), Atanasov et al. (2022)
# Time      63 seconds on 2 free CPU cores (hyperthreads of one), with the plan
#
# Rates and factors were chosen while the probe was built, so that nets train, some of it seen on the seeds of this design.
# Nothing was chosen by test accuracy or by a verdict.
set -eu
exec mlptheory probe ntk --out "${1:-runs/ntk_digits}"
