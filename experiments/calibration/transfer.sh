#!/bin/sh
# How often the verdicts of the transfer probe are wrong: 5,000 tables with a planted truth for every scenario, with
# Gaussian noise and with that of 600 real runs on digits, a probe and a fine-tuning of each of 300 bodies.
#
# Paper     none
# Time      31 minutes on 2 CPU cores (hyperthreads of one) busy with other work, about 10 of them for the 600 runs
set -eu
exec mlptheory calibrate transfer --bank-runs 600 --out "${1:-runs/calibration_transfer}"
