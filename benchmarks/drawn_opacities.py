"""Whether maps lie on what was drawn: the share of a map's heat that is inside the opacities of drawn images.

    python -m benchmarks.drawn_opacities --run experiments/demo

The images are of other patients than those of `cxr demo`. A map that looked anywhere would have as much of its heat
inside as the opacities have of the image's area, so the two shares are compared, image by image.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.results import keep
from cxr.images.decoding import decode_square
from cxr.images.synthetic import draw_with_opacities
from cxr.network.heat_map import heat_maps
from cxr.storage.run_folder import RunFolder
from cxr.training.predictions import load_network
from cxr.training.run import load_run

N_IMAGES = 100
SEED = 1000
"""Not one that the demo or a test draws with."""
EDGE = 0.25
"""An opacity is where its density is at least this share of its highest."""


def main() -> None:
    """Draw, explain, compare, and keep the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run on drawn images")
    run = load_run(RunFolder(parser.parse_args().run))
    images, opacities = zip(*draw_with_opacities(N_IMAGES, SEED), strict=True)
    squares = np.stack([decode_square(image, run.config.size) for image in images])
    networks = [load_network(run, fold) for fold in range(run.config.folds)]
    heat = heat_maps(networks, squares, np.full(N_IMAGES, len(run.classes) - 1))
    shares = np.array([shares_of(*pair) for pair in zip(heat, opacities, strict=True)])
    n_blank = int(np.isnan(shares[:, 0]).sum())
    figures: dict[str, float] = {"size": run.config.size, "images": N_IMAGES, "blank maps, left out": n_blank}
    for name, rows in (("virus", shares[::2]), ("bacteria", shares[1::2])):
        inside, area = np.nanmean(rows, axis=0)
        figures |= {f"{name}: heat inside": round(inside, 3), f"{name}: area": round(area, 3)}
        figures[f"{name}: ratio"] = round(inside / area, 2)
    keep("drawn_opacities", figures)


def shares_of(heat: np.ndarray, opacity: np.ndarray) -> tuple[float, float]:
    """Return the share of a map's heat inside the opacity, NaN if it has none, and the opacity's share of the image."""
    inside = opacity >= EDGE * opacity.max()
    place = np.arange(len(inside)) * len(heat) // len(inside)
    stretched = heat[np.ix_(place, place)]
    total = stretched.sum()
    return (stretched[inside].sum() / total if total > 0 else float("nan")), inside.mean()


if __name__ == "__main__":
    main()
