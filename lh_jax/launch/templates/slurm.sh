#!/bin/bash
# lh_jax on SLURM; from lh_jax/launch/templates/slurm.sh.
# {{origin}}
#SBATCH --job-name={{name}}
#SBATCH --nodes={{nodes}}
#SBATCH --ntasks-per-node={{processes_per_node}}
{{gpus}}
#SBATCH --cpus-per-task={{cpus}}
#SBATCH --time={{time}}
#SBATCH --output={{log}}
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@{{grace_seconds}}
{{further}}

{{setup}}
{{exports}}

# Every process sees all GPUs of its node and JAX picks its own, so SLURM must not bind them. Where one process ends, the
# others have five minutes to finish their checkpoint. Since SLURM 22.05 srun does not inherit --cpus-per-task.
srun --kill-on-bad-exit=0 --wait=300 --cpus-per-task={{cpus}}{{gpu_bind}} \
  {{command}}
status=$?

# 143: SIGTERM came (the time limit is near), a checkpoint was saved, and there is more to train.
if [ "$status" -eq 143 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
