#!/bin/sh
# How often the verdicts of the ntk probe are wrong: 5,000 tables with a planted truth for every scenario, with Gaussian
# noise and with that of 300 real nets on digits.
#
# Paper     none
set -eu
exec mlptheory calibrate ntk --bank-runs 300 --out "${1:-runs/calibration_ntk}"
