"""Recordings as versions wrote them that had no checksums: a file for each coordinate of each step."""

import json
import shutil

from stg_lab.recording import seal
from stg_lab.recording.chunks import ChunkFiles
from stg_lab.recording.layout import CHECKSUMS, LATER_COORDS, MARK, STEP_COORDS
from stg_lab.recording.planned import Planned


def as_older(path, mark=2, kind=MARK):
    """Make a recording one of format `mark`, 1 or 2, in its place; or a sweep one of format 1, `kind` being `SWEEP_MARK`."""
    root = json.loads((path / "zarr.json").read_text())
    owner = root["attributes"]["stg_lab_id"]
    by_step = (*STEP_COORDS, *LATER_COORDS) if kind == MARK else ()
    for name in by_step:
        plan = Planned.read(json.loads((path / name / "zarr.json").read_text()))
        values = ChunkFiles(plan, path / name, owner).read()
        shutil.rmtree(path / name)
        older = Planned(("step",), plan.shape, "float64", chunks=(1,), fill=float("nan"))
        (path / name).mkdir()
        (path / name / "zarr.json").write_text(json.dumps(older.document()))
        for k, value in enumerate(values):
            ChunkFiles(older, path / name).write(value, k)
    for file in path.rglob("c*"):
        if file.is_file() and file.parent.name not in by_step:
            file.write_bytes(seal.unsealed(file.read_bytes(), file.relative_to(path).as_posix(), owner))
    del root["attributes"][CHECKSUMS]
    root["attributes"][kind] = mark
    (path / "zarr.json").write_text(json.dumps(root))
    return path
