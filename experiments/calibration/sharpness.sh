#!/bin/sh
# How often the verdicts of the sharpness probe are wrong: 5,000 tables with a planted truth for every scenario, with
# Gaussian noise and with that of 900 real runs on digits, 300 of each part.
#
# Paper     none
# Time      17 minutes on 2 CPU cores (hyperthreads of one), 10 of them for the 900 runs, while other work shared the machine
set -eu
exec mlptheory calibrate sharpness --bank-runs 900 --out "${1:-runs/calibration_sharpness}"
