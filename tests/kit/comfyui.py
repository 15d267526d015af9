"""Guidance that ComfyUI can say, and weak predictions that are not a model's."""

import numpy as np

import stg_lab as lab

SIGMAS = [1.0, 0.97, 0.9, 0.74, 0.5, 0.21]
SHAPE = (2, 3, 4)


def weak_prediction(layers):
    return np.random.default_rng([*layers, len(layers)]).standard_normal(SHAPE)


def in_x0(guidance, phi):
    return guidance.in_x0().rescale(phi, per="batch")


A, B = lab.skip([7, 8, 9]), lab.skip([14, 19], part="attention")


SAID = {
    "nothing": lab.CFG(1),
    "cfg": lab.CFG(3),
    "blocks": lab.CFG(3) + lab.STG(2.8, A),
    "blocks without cfg": lab.STG(2.8, A),
    "blocks, rescaled": in_x0(lab.CFG(3) + lab.STG(2.8, A), 0.7),
    "blocks, fully rescaled": in_x0(lab.CFG(3) + lab.STG(2.8, A), 1.0),
    "a window, rescaled, no cfg": in_x0(lab.STG(2.8, A, start=0.2, stop=0.7), 0.7),
    "blocks in a window": lab.CFG(3) + lab.STG(2.8, A, start=0.01, stop=0.5),
    "blocks in a window of sigma": lab.CFG(3) + lab.STG(2.8, A, sigma=(0.3, 0.97)),
    "a scale that is on and off": lab.CFG(3) + lab.STG([0, 2, 2, 2, 0, 0], A),
    "layers at some steps": lab.STG(1, lab.per_step((2, None), (2, A), (2, None))),
    "several terms": lab.CFG(3) + lab.STG(1, A, stop=0.5) + lab.STG(2, lab.skip([3]), start=0.3),
    "cfg in two terms": lab.CFG(3) + lab.CFG(2) + lab.STG(1, A),
    "attention": lab.CFG(3) + lab.STG(1.5, B),
    "attention, rescaled": in_x0(lab.CFG(3) + lab.STG(1.5, B), 0.7),
    "attention that cancels out": lab.CFG(3) + lab.STG(1.5, B) + lab.STG(-1.5, B),
    "attention, cfg in a window": lab.CFG(8, stop=0.5) + lab.STG(4, B),
    "attention, lists": in_x0(lab.CFG([8, 6, 6, 4, 3, 1]) + lab.STG([4, 4, 3, 2, 1, 0], B), 1.0),
    "attention, negative in a window": lab.CFG(3) + lab.STG(-1, B, start=0.5),
    "attention, layers that change": lab.STG(2, lab.per_step((2, B), (3, lab.skip([29], part="attention")), None)),
}
