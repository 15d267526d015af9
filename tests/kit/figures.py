"""What a matplotlib figure shows, read back from it."""

import numpy as np


def pictures(figure):
    """All pictures with their places, row by row from the top: `(left, top, array)`."""
    found = []
    for ax in figure.axes:
        if ax.images:
            place = ax.get_position()
            found.append((place.x0, 1 - place.y1, np.asarray(ax.images[0].get_array())))
    return sorted(found, key=lambda one: (round(one[1], 6), one[0]))


def films(figure, rows):
    """The pictures as rows of frames."""
    arrays = [array for _, _, array in pictures(figure)]
    return np.stack(arrays).reshape(rows, -1, *arrays[0].shape)


def words(figure):
    """Every text on the figure's page, in one line each."""
    return [text.get_text().replace("\n", " ").replace("\u00a0", " ") for text in figure.texts]


def labels(figure):
    return [text.get_text().replace("\n", " ") for text in figure.texts if text.get_text().startswith("(")]
