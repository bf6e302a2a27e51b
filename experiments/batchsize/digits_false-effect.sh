#!/bin/sh
# An effect of the batch size that is one of the learning rate: larger batches look better on digits at one learning
# rate for all of them. Do they at learning rates tuned for each?
#
# Paper     none has this number; the claims are those of Bachmann et al. (2023), Figure 4, and Shallue et al. (2019)
# Time      31 minutes on a CPU core busy with other work; the pilot 2 minutes
#
# Chosen beforehand: one length, 20 epochs, where the effect at the default learning rate 8e-4 was first seen, with seeds
# 0 to 7 in bfloat16; margin 0.3 percentage points, as effects on digits are small; a grid that goes lower than the
# default one; float32. A pilot, `sh digits_false-effect.sh FOLDER pilot`, is the same with seeds 0 to 7, without controls
# (beside this file, digits_false-effect_pilot/). Its spread over seeds, 0.45 percentage points, gave the 48 seeds, all
# new: 90 % power at Holm's first step for an effect of 0.54, a little less than the pilot's. The tuning runs have seeds of
# their own, which are the pilot's too. Run once.
set -eu
out="${1:-runs/batchsize_digits_false-effect}"
seeds=$(seq 100 147)
control=--control
if [ "${2:-}" = pilot ]; then
    seeds=$(seq 0 7)
    control=--no-control
fi
# shellcheck disable=SC2086
exec mlptheory probe batchsize --dataset digits --model B-2/Wi-64 --batch-sizes 16 64 256 --lengths 20 --seeds $seeds \
    --lr-policies fixed tuned --lr-grid 0.03125 0.0625 0.125 0.25 0.5 1 2 4 --tuning-seeds 4 --margin 0.3 \
    --curvature-seeds 0 --target-accuracy None --precision float32 $control --workers 1 --out "$out"
