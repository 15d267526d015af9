"""Guidance as one sum: the conditional prediction plus weighted guidance vectors.

    guided = cond + sum_i  w_i * D_i          D_i = cond - weak_i

Classifier-free guidance is the vector to the unconditional prediction with w = scale - 1 (Ho and Salimans 2022, in
diffusers' convention); Spatiotemporal Skip Guidance is the vector to the same model with layers skipped, w = scale
(Hyung et al. 2025, eq. 13 and 20). Everything here is plain arithmetic on arrays whose first dimension is the sample;
torch tensors and numpy arrays are treated alike.
"""

from stg_lab.guidance.acting import Acting, Weighted
from stg_lab.guidance.bands import Bands
from stg_lab.guidance.conventions import CONVENTIONS, convention
from stg_lab.guidance.edits import Edit
from stg_lab.guidance.equation import combine, combine_cfg, guided_by
from stg_lab.guidance.guidance import Guidance, Orthogonal, as_guidance
from stg_lab.guidance.moment import Moment
from stg_lab.guidance.restart import Restart
from stg_lab.guidance.rules import APG, RULES, Magnitude, Rule, Tangential, ZeroStar
from stg_lab.guidance.scales import Schedule, number
from stg_lab.guidance.terms import CFG, COND, GUIDED, REFERENCES, STG, UNCOND, CFGpp, Probe, Term, WeakModel

__all__ = [
    "APG",
    "CFG",
    "COND",
    "CONVENTIONS",
    "GUIDED",
    "REFERENCES",
    "RULES",
    "STG",
    "UNCOND",
    "Acting",
    "Bands",
    "CFGpp",
    "Edit",
    "Guidance",
    "Magnitude",
    "Moment",
    "Orthogonal",
    "Probe",
    "Restart",
    "Rule",
    "Schedule",
    "Tangential",
    "Term",
    "WeakModel",
    "Weighted",
    "ZeroStar",
    "as_guidance",
    "combine",
    "combine_cfg",
    "convention",
    "guided_by",
    "number",
]
