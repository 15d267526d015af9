"""What families of U-Nets share whose attention is within frames, and then over time."""

from __future__ import annotations

from typing import Any

from stg_lab.families.base import Family, Grid


class UNet(Family):
    """A layer is one attention unit: what attends within frames, and what attends over time."""

    surely_reused = True
    axes = ("spatial", "temporal")
    batched = True
    sequential = False  # up blocks take what every down block gave

    def stages(self, denoiser: Any) -> list[Any]:
        return [*denoiser.down_blocks, denoiser.mid_block, *denoiser.up_blocks]

    def blocks(self, denoiser: Any) -> list[Any]:
        return [block for layer in self.layers(denoiser) for block in layer.values()]

    def places(self, grid: Grid, axis: str, tokens: int) -> Grid:
        while axis == "spatial" and grid.height * grid.width > tokens:  # each level of the U-Net halves the picture
            grid = Grid(grid.frames, -(-grid.height // 2), -(-grid.width // 2))
        return grid.along(axis)
