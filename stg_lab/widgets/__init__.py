"""Live views for notebooks: state and layout only, no maths."""

from stg_lab.widgets.ablation_explorer import AblationExplorer, ablation_explorer
from stg_lab.widgets.blind_pairs import BlindPairs, rate
from stg_lab.widgets.comparison_explorer import ComparisonExplorer, comparison_explorer
from stg_lab.widgets.fork_explorer import ForkExplorer, fork_explorer
from stg_lab.widgets.gaussian_explorer import GaussianExplorer, gaussian_explorer
from stg_lab.widgets.grid_explorer import GridExplorer, grid_explorer
from stg_lab.widgets.guidance_explorer import GuidanceExplorer, guidance_explorer
from stg_lab.widgets.live_run import LiveRun, live_run
from stg_lab.widgets.orthogonality_explorer import OrthogonalityExplorer, orthogonality_explorer
from stg_lab.widgets.watch_explorer import WatchExplorer, watch_explorer
from stg_lab.widgets.x0_explorer import X0Explorer, x0_explorer

__all__ = [
    "AblationExplorer",
    "BlindPairs",
    "ComparisonExplorer",
    "ForkExplorer",
    "GaussianExplorer",
    "GridExplorer",
    "GuidanceExplorer",
    "LiveRun",
    "OrthogonalityExplorer",
    "WatchExplorer",
    "X0Explorer",
    "ablation_explorer",
    "comparison_explorer",
    "fork_explorer",
    "gaussian_explorer",
    "grid_explorer",
    "guidance_explorer",
    "live_run",
    "orthogonality_explorer",
    "rate",
    "watch_explorer",
    "x0_explorer",
]
