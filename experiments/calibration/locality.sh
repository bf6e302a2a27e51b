#!/bin/sh
# How often the verdicts of the locality probe are wrong: 5,000 tables with a planted truth for every scenario, with
# Gaussian noise and with that of 300 real nets on digits.
#
# Paper     none
# Time      7 minutes on 2 CPU cores (hyperthreads of one), 2 of them for the 300 runs
set -eu
exec mlptheory calibrate locality --bank-runs 300 --out "${1:-runs/calibration_locality}"
