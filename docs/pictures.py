"""Pictures of the pages of experiments, from a run of `experiment=full`.

    python docs/pictures.py RUN

draws what `layers.png` of a run has, a picture for each experiment, into docs/images/experiments.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analysis.plots import plot_layers
from common.results.results import read_results

FOLDER = Path(__file__).resolve().parent / "images" / "experiments"


def main(run: Path) -> None:
    """A picture for each experiment of the run's folder."""
    rows = read_results(run)
    FOLDER.mkdir(exist_ok=True)
    for name, scores in rows.groupby("experiment"):
        title = f"{scores['model'].iloc[0]} on {scores['dataset'].iloc[0]}"
        with TemporaryDirectory() as scratch:
            plot_layers(scores, Path(scratch), title)
            (FOLDER / f"{name}.png").write_bytes((Path(scratch) / "layers.png").read_bytes())
        print(FOLDER / f"{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
