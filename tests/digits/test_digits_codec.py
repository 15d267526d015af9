"""The pixel codec only rearranges: nothing is lost, and its layout is the one it says."""

import pytest
import torch
from jaxtyping import TypeCheckError

from stg_lab.digits.codec import PixelCodec


def video(frames, height=8, width=12, seed=0):
    return torch.rand(2, 3, frames, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(("s", "t"), [(1, 1), (2, 2), (2, 3), (4, 4)])
@pytest.mark.parametrize("groups", [0, 1, 3])
def test_decoding_undoes_encoding_bit_for_bit(s, t, groups):
    codec, x = PixelCodec(scale_factor_spatial=s, scale_factor_temporal=t), video(1 + groups * t)
    z = codec.encode(x).latent
    assert z.shape == (2, 3 * t * s * s, 1 + groups, 8 // s, 12 // s)
    decoded = codec.decode(z).sample
    if t == 3:  # a mean of three equal float32 numbers is off by a rounding
        assert torch.equal(decoded[:, :, 1:], x[:, :, 1:])
        assert torch.allclose(decoded, x, atol=1e-6)
    else:
        assert torch.equal(decoded, x)


def test_a_latent_pixel_holds_its_block_of_pixels():
    codec, x = PixelCodec(scale_factor_spatial=2, scale_factor_temporal=2), video(5)
    z = codec.encode(x).latent
    for channel in range(24):
        time, colour, row, column = channel // 12, channel // 4 % 3, channel // 2 % 2, channel % 2
        assert torch.equal(z[:, channel, 1:], x[:, colour, 1 + time :: 2, row::2, column::2])
        assert torch.equal(z[:, channel, 0], x[:, colour, 0, row::2, column::2])


def test_the_first_frame_is_the_mean_of_its_copies():
    codec = PixelCodec()
    z = torch.randn(1, 24, 3, 4, 4)
    first = codec.decode(z).sample[:, :, 0]
    one, two = z.clone(), z.clone()
    one[:, 12:, 0], two[:, :12, 0] = z[:, :12, 0], z[:, 12:, 0]
    assert torch.allclose(first, (codec.decode(one).sample + codec.decode(two).sample)[:, :, 0] / 2, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 8, 8), (4, 8, 8), (5, 7, 8), (5, 8, 9), (0, 8, 8)], ids=str)
def test_a_video_that_does_not_fit_is_refused_with_what_fits(shape):
    frames, height, width = shape
    with pytest.raises(
        ValueError,
        match=rf"needs 1 \+ k \* 2 frames and sides divisible by 2, got {frames} frames of {height} x {width}",
    ):
        PixelCodec().encode(torch.zeros(1, 3, *shape))


def test_a_wrong_number_of_channels_is_refused():
    with pytest.raises(ValueError, match="z_dim is 16, but these factors make 24 channels"):
        PixelCodec(z_dim=16)
    assert PixelCodec(z_dim=24).config.z_dim == 24


def test_plain_tuples_are_given_on_request():
    codec, x = PixelCodec(), video(3)
    (z,) = codec.encode(x, return_dict=False)
    (back,) = codec.decode(z, return_dict=False)
    assert torch.equal(back, x)


def test_the_codec_survives_a_file(tmp_path):
    codec = PixelCodec(scale_factor_spatial=4, latents_mean=[0.5] * 96, sample_size=64)
    codec.save_pretrained(tmp_path)
    again = PixelCodec.from_pretrained(tmp_path)
    assert again.config.latents_mean == [0.5] * 96
    assert (again.config.scale_factor_spatial, again.config.sample_size, again.config.z_dim) == (4, 64, 96)
    assert torch.equal(again.encode(video(5)).latent, codec.encode(video(5)).latent)


def test_shapes_in_signatures_are_checked_under_test():
    """Every test of the digits world is also a test of the shapes that its signatures promise."""
    with pytest.raises(TypeCheckError):
        PixelCodec().encode(torch.zeros(3, 5, 8, 8))
