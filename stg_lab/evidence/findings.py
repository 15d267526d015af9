"""Findings on disk: plain JSON, from which tables and figures are made without running anything again."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import diffusers
import torch

from stg_lab._version import __version__
from stg_lab.evidence.claim import Claim, Finding, Line, Panel, Sheet
from stg_lab.evidence.statistics import Estimate


def file_of(folder: Path, number: int, model: str) -> Path:
    """Where the finding of a claim on a model lies."""
    return folder / f"claim-{number:02d}-{model}.json"


def keep(folder: Path, claim: Claim, model: str, found: Finding, about: Mapping[str, Any]) -> Path:
    """Write a finding.

    Args:
        about: what else must be known to make it again: number of videos, fingerprints of model and judge.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made_by = {"stg_lab": __version__, "torch": torch.__version__, "diffusers": diffusers.__version__}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {platform.machine()}"
    values = {
        "claim": claim.number, "model": model, "test": claim.test, "verdict": found.verdict, "because": found.because,
        "about": {**about, "device": device, **made_by},
        "rows": [{k: _plain(v) for k, v in row.items()} for row in found.rows],
        "panels": [_panel(panel) for panel in found.panels],
        "folders": found.folders,
        "sheets": [asdict(sheet) for sheet in found.sheets],
    }  # fmt: skip
    file = file_of(folder, claim.number, model)
    file.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n")
    return file


def weightier(folder: Path, claim: Claim, model: str, about: Mapping[str, Any]) -> tuple[str, int] | None:
    """Verdict and number of videos of a kept finding that rests on more videos of the same model and judge, by the same rules, if
    there is one."""
    file = file_of(folder, claim.number, model)
    if not file.exists():
        return None
    found, known = read(file)
    same = known["test"] == claim.test and all(known[name] == about[name] for name in ("weights", "judge"))
    return (found.verdict, known["videos"]) if same and known["videos"] > about["videos"] else None


def read(file: Path) -> tuple[Finding, dict[str, Any]]:
    """A finding, and what is known about it; `test` are the rules it rests on."""
    values = json.loads(file.read_text())
    panels = [
        Panel(p["title"], p["xlabel"], p["ylabel"], [_line(n) for n in p["lines"]], p["real"], p.get("bar"))
        for p in values["panels"]
    ]  # fmt: skip
    rows = [{k: Estimate(**v) if isinstance(v, dict) else v for k, v in row.items()} for row in values["rows"]]
    sheets = [Sheet(**sheet) for sheet in values.get("sheets", [])]
    return Finding(values["verdict"], values["because"], rows, panels, values["folders"], sheets), values["about"] | {
        "test": values.get("test")
    }


def _line(n: dict[str, Any]) -> Line:
    x = [Estimate(**value) if isinstance(value, dict) else value for value in n["x"]]
    return Line(n["name"], x, [Estimate(**e) for e in n["y"]])


def _panel(p: Panel) -> dict[str, Any]:
    lines = [{"name": n.name, "x": [_plain(value) for value in n.x], "y": [e.as_dict() for e in n.y]} for n in p.lines]
    return {"title": p.title, "xlabel": p.xlabel, "ylabel": p.ylabel, "real": p.real, "bar": p.bar, "lines": lines}


def _plain(value: Any) -> Any:
    return value.as_dict() if isinstance(value, Estimate) else value
