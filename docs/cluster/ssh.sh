#!/bin/sh
# Which layers to skip, on machines that you reach by SSH. The scheduler runs here; each GPU there gets one worker, which sees no
# other GPU. All of them share a file system, and have the same environment at the same place.
#
#     HOSTS="node1 node2" GPUS="0 1 2 3" ADDRESS=10.0.0.1 sh ssh.sh "captions.txt" out/search
set -eu
: "${PYTHON:=python}" "${PORT:=8786}" "${MODEL:=Wan-AI/Wan2.1-T2V-1.3B-Diffusers}" "${SSH:=ssh}" "${MORE:=--dtype bfloat16 --score smoothness --steps 30 --cfg 5 --budget 8h}"

"$PYTHON" -m distributed.cli.dask_scheduler --host "$ADDRESS" --port "$PORT" --no-dashboard & scheduler=$!
trap 'kill $scheduler' EXIT # workers go with their scheduler
for host in $HOSTS; do
    for gpu in $GPUS; do
        $SSH "$host" "cd '$PWD' && CUDA_VISIBLE_DEVICES=$gpu OMP_NUM_THREADS=1 '$PYTHON' -m distributed.cli.dask_worker tcp://$ADDRESS:$PORT \
            --nthreads 1 --memory-limit 0 --no-dashboard --death-timeout 60" &
    done
done
"$PYTHON" -m stg_lab search "$MODEL" --prompts "$1" --out "$2" --scheduler "tcp://$ADDRESS:$PORT" $MORE
