#!/bin/sh
# How often the verdicts of the permutation probe are wrong: 5,000 tables with a planted truth for every scenario, with
# Gaussian noise and with that of 450 real runs on digits, 150 each of the MLP, the baseline and an exact pair.
#
# Paper     none
# Time      18 minutes on 2 CPU cores (hyperthreads of one) busy with other work, 12 of them for the 450 runs
set -eu
exec mlptheory calibrate permutation --bank-runs 450 --out "${1:-runs/calibration_permutation}"
