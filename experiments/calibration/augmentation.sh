#!/bin/sh
# How often the verdicts of the augmentation probe are wrong: 5,000 tables with a planted truth for every scenario, with
# Gaussian noise and with that of 300 real MLPs without augmentation on digits.
#
# Paper     none
# Time      19 minutes on 2 CPU cores (hyperthreads of one) that other work shared, 2 of them for the 300 runs
set -eu
exec mlptheory calibrate augmentation --bank-runs 300 --out "${1:-runs/calibration_augmentation}"
