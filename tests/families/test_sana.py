"""SanaVideo beside its attention: sizes that it was trained with, another VAE; and SkyReels-V2's causal attention."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLLTX2Video, SanaVideoPipeline
from kit.trust import attached
from kit.watch import left_behind
from kit.zoo import member, prepared, skewed

import stg_lab as lab


@pytest.fixture
def one():
    return member("sana")


def ltx2_vae():
    return skewed(
        prepared(
            AutoencoderKLLTX2Video(
                latent_channels=4, block_out_channels=(8,), decoder_block_out_channels=(8,), layers_per_block=(1,),
                decoder_layers_per_block=(1, 1), spatio_temporal_scaling=(True,), decoder_spatio_temporal_scaling=(True,),
                decoder_inject_noise=(False, False), downsample_type=("spatial",), upsample_residual=(False,),
                upsample_factor=(1,), down_block_types=("LTX2VideoDownBlock3D",), upsample_type=("spatiotemporal",),
                spatial_compression_ratio=8, temporal_compression_ratio=2,
            )
        )
    )  # fmt: skip


def test_another_vae_has_its_statistics_elsewhere(one):
    parts = {name: one.pipe.components[name] for name in ("tokenizer", "text_encoder", "transformer", "scheduler")}
    one.pipe = SanaVideoPipeline(**parts, vae=ltx2_vae())
    output = one.stock(output_type="np")
    _, trace = attached(one)
    assert np.allclose(lab.decode(one.pipe, trace.recording.ds.final), output, atol=1e-5)


def test_a_size_without_trained_neighbours_is_refused_with_what_to_type(one):
    one.pipe.transformer.register_to_config(sample_size=8)
    with pytest.raises(
        lab.CallError, match=r"sample_size of 30 or 22; .* 8\. Call it with use_resolution_binning=False"
    ):
        lab.sample(one.pipe, **one.arguments({"use_resolution_binning": True}))


def test_causal_attention_is_skipped_but_not_edited_by_place():
    one = member("skyreels")
    one.call["num_frames"] = 13  # two blocks of two latent frames
    one.pipe.transformer._set_ar_attention(2)
    stock = one.stock()
    recorded, trace = attached(one, lab.Probe(lab.skip([1], part="attention")))
    assert trace.rebuilt
    assert torch.equal(recorded, stock)
    with pytest.raises(lab.GuidanceError, match=r"mask of shape .* differs between queries"):
        attached(one, lab.Probe(lab.skip([1], part="attention", axis="temporal")))
    assert left_behind(one.pipe) == []
