#!/bin/sh
# How often the verdicts of the ntk probe are wrong: 5,000 tables with a planted truth for every scenario, with Gaussian
# noise and with that of 300 real nets on digits.
#
# Paper     none
# Time      75 minutes on 2 CPU cores (hyperthreads of one) that other work had the most of, 57 of them for the 300 nets; in two
#           sittings, of which the record's seconds are the second's
set -eu
exec mlptheory calibrate ntk --bank-runs 300 --out "${1:-runs/calibration_ntk}"
