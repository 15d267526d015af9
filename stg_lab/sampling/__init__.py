"""`sample` and `attach`: the two seams put together with guidance and a recorder."""

from stg_lab.sampling.ablate import ablate
from stg_lab.sampling.attach import attach
from stg_lab.sampling.attribute import attribute
from stg_lab.sampling.fork import fork
from stg_lab.sampling.guider import guider
from stg_lab.sampling.plan import Plan, plan
from stg_lab.sampling.run import Run, decode
from stg_lab.sampling.sample import rerun, sample
from stg_lab.sampling.step_view import Seen
from stg_lab.sampling.trace import Trace

__all__ = [
    "Plan",
    "Run",
    "Seen",
    "Trace",
    "ablate",
    "attach",
    "attribute",
    "decode",
    "fork",
    "guider",
    "plan",
    "rerun",
    "sample",
]
