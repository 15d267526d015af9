"""Other tools' settings: guidance read from diffusers' guiders, and written for diffusers, LTX-Video and ComfyUI.

One rule holds both ways: what comes out gives the same prediction at every step, or there is an error that says why not and
what to type instead. Nothing is approximated, and no defect is reproduced.

Importing this room imports no diffusers and no torch; a guider is known by its class's name.
"""

from stg_lab.interop.export import FORMATS, export, settings
from stg_lab.interop.from_diffusers import as_guidance, from_guider
from stg_lab.interop.json_file import from_json

__all__ = ["FORMATS", "as_guidance", "export", "from_guider", "from_json", "settings"]
