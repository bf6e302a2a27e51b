#!/bin/sh
# How often the verdicts of the batch-size probe are wrong: 5,000 tables with a planted truth for every scenario, with
# Gaussian noise and with that of 300 real runs on digits.
#
# Paper     none
# Time      11 minutes on 2 CPU cores (hyperthreads of one), 4 of them for the 300 runs
set -eu
exec mlptheory calibrate batchsize --out "${1:-runs/calibration_batchsize}"
