"""Which layers to skip, under Slurm: run this on a login node or in a small job; it asks for one job a GPU and feeds them.

Needs `pip install 'stg-lab[cluster]' dask-jobqueue` on a file system that all machines share.
"""

from pathlib import Path

import torch
from dask.distributed import Client
from dask_jobqueue import SLURMCluster

import stg_lab as lab

MODEL = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
PROMPTS = "captions.txt"
OUT = "out/search"
JOBS = 16
CALL = {"num_inference_steps": 30, "num_frames": 49, "height": 480, "width": 832}

cluster = SLURMCluster(
    cores=1,  # one thread: two models in one process would share its memory
    processes=1,
    memory="64GB",  # what Slurm gives a job
    worker_extra_args=[
        "--memory-limit",
        "0",
    ],  # and dask does not watch over: it would end a worker that loads a large model
    job_extra_directives=["--gpus=1"],  # Slurm sets CUDA_VISIBLE_DEVICES before the worker begins
    walltime="04:00:00",  # a job that ends takes its video with it, which another one makes again
    death_timeout=600,
    scheduler_options={
        "interface": "ib0",
        "dashboard_address": None,
    },  # the network of the machines, and no page for all to see
)
cluster.scale(jobs=JOBS)
with cluster, Client(cluster) as client:
    client.wait_for_workers(1)  # however long the queue is
    found = lab.search(
        lab.load(MODEL, dtype=torch.bfloat16),
        [lab.skip([layer]) for layer in range(5, 25)],
        prompts=Path(PROMPTS).read_text().splitlines(),
        seeds=range(32),
        guidance=lab.CFG(5),
        score="smoothness",
        budget="20000 passes",  # of a time it would not be known how many jobs there are
        record=OUT,
        client=client,
        **CALL,
    )
print(found)
