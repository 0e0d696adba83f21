"""How many images of a run went where: the numbers of the flow diagram, as STARD asks for it."""

import pandas as pd

from cxr.evaluation.out_of_fold import OutOfFold


def image_flow(manifest: pd.DataFrame, holdout: str | None, images: OutOfFold) -> pd.DataFrame:
    """Return one row per step, each the one before it less what is left out there.

    Columns: step, n. Steps: `found`, less `unreadable` and `duplicate` (byte-identical copies): `used`, less `held_out`
    and `not_predicted` (near-duplicates of held-out images; images in which a finding is unknown): `cross_validated`;
    and `groups` (patients), of the cross-validated images.

    Args:
        manifest: of the run.
        holdout: the split that is held out; None for none.
        images: the predictions, of one finding or of classes.
    """
    used = manifest[manifest["status"] == "used"]
    is_held_out = (used["split"] == holdout).fillna(False) & (holdout is not None)
    is_predicted = used["path"].isin(images.predictions["path"])  # identical files may have different labels
    counts = {
        "found": len(manifest),
        "unreadable": (manifest["status"] == "unreadable").sum(),
        "duplicate": (manifest["status"] == "duplicate").sum(),
        "used": len(used),
        "held_out": is_held_out.sum(),
        "not_predicted": (~is_held_out & ~is_predicted).sum(),
        "cross_validated": is_predicted.sum(),
        "groups": images.predictions["group_id"].nunique(),
    }
    return pd.DataFrame({"step": counts.keys(), "n": [int(n) for n in counts.values()]})
