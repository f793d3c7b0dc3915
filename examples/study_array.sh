#!/usr/bin/env bash
# A study as an array of jobs of Slurm, which fill one store on a shared folder: sbatch examples/study_array.sh
#SBATCH --job-name=qsim
#SBATCH --array=1-16
#SBATCH --cpus-per-task=4
#SBATCH --time=01:00:00
export QSIM_CACHE_DIR="${QSIM_CACHE_DIR:-$HOME/qsim-store}"
qsim study "${STUDY:-s_sweep}" --jobs "${SLURM_CPUS_PER_TASK:-1}" --part "${SLURM_ARRAY_TASK_ID:-1}/${SLURM_ARRAY_TASK_COUNT:-1}" "$@"
# When all have ended, `qsim study s_sweep` with the same QSIM_CACHE_DIR finds every cell, and draws.
