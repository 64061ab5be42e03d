"""The analysis stage: load what training left, evaluate, write the page."""

from pathlib import Path

import numpy as np
import pandas as pd

from treadle import prepared
from treadle.analysis import page
from treadle.analysis.evaluate import Rival, evaluate
from treadle.analysis.examined import examine
from treadle.analysis.learned import by_champion
from treadle.bundle import Bundle
from treadle.evaluation import Evaluation
from treadle.ports import ObjectStore
from treadle.records import ModelVersion, Parity, Split, Training
from treadle.spec import Analysis


def run(
    bundle_directory: Path,
    prepared_directory: Path,
    training_path: Path,
    parity_path: Path,
    options: str,
    metric: str,
    seed: int,
    champion: tuple[ModelVersion, Bundle] | None,
    store: ObjectStore,
    out: Path,
    cores: int,
) -> Evaluation:
    """Evaluate a bundle on the held-out rows of its split; write the page to ``out``."""
    bundle = Bundle.at(bundle_directory, cores)
    split = Split.read(prepared_directory / prepared.SPLIT)
    held_out = pd.read_parquet(store.local(f"snapshots/{split.held_out}/data.parquet"))
    seen = examine(bundle, held_out)
    rival = None
    if champion is not None:
        version, champion_bundle = champion
        learned = by_champion(version.lineage, split, len(held_out), store)
        rival = Rival(version.version, champion_bundle, learned)
    found = evaluate(
        bundle,
        seen,
        np.load(prepared_directory / "train_y.npy"),
        Analysis.model_validate_json(options),
        metric,
        seed,
        rival,
    )
    training, parity = Training.read(training_path), Parity.read(parity_path)
    html = page.render(found, seen, training, parity, split)
    out.write_text(html, encoding="utf-8")
    return found
