"""Runs a job's worker group as processes of this machine.

events      what a run tells its display
run_ids     names of runs
placement   ports, processor cores and GPUs of each worker
folders     the run's folder on this machine
leash       the small program that starts a worker and binds its life to ours
processes   one worker process: start, signal, end
polling     /progress of all ranks
policy      pure decisions: what a failure means, when to restart, whom to end and when
attempt     one start of the whole group, until its last process has ended
runner      attempts until the run is done, fails or is stopped
preflight   refusals before anything starts, and the choice of a run to resume
"""
