"""Many runs, on one machine or many: who does them, and where what they give is kept.

The folder is the truth: a job keeps what it made under a name of its own, by rename, so that whatever is there is whole. Who does
the jobs only feeds the folder, and may be this process, several, or a dask cluster.
"""

from stg_lab.sweeps.workers import ALONE, WorkerLost, Workers, cores, crew

__all__ = ["ALONE", "WorkerLost", "Workers", "cores", "crew"]
