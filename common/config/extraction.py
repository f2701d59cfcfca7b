"""What `experiment=features` and `experiment=units` write to disk, as types."""

from dataclasses import dataclass

from common.config.analysis import STORED, require, require_at_least
from common.records import StrataError

FORMATS = ("safetensors", "npy", "hdf5", "ark")


@dataclass(kw_only=True)
class FeaturesConfig:
    """Layers of utterances on disk.

    `folder`: where, null for `features` in the run's folder; a run with the same folder resumes
    one that was interrupted. `format`: a safetensors file for each utterance; .npy files for
    each utterance and layer; one HDF5 file (the extra [hdf5]); or an ark and its index (.scp) for
    each layer (the extra [ark]). `stored`: the type of the numbers. `utterances`: ids of these
    alone, null for all of the dataset.
    """

    folder: str | None = None
    format: str = "safetensors"
    stored: str = "float32"
    utterances: list[str] | None = None

    def __post_init__(self) -> None:
        require("features.format", self.format, FORMATS)
        require("features.stored", self.stored, STORED)
        if self.format == "ark" and self.stored != "float32":
            raise StrataError(
                f"features.stored={self.stored} with features.format=ark: Kaldi's matrices are "
                "float32; leave out features.stored, or choose another format"
            )


@dataclass(kw_only=True)
class UnitsConfig:
    """Discrete units: the cluster of each frame.

    `clusters`: how many, found by k-means on `fit_frames` frames at most, drawn over all speech
    (the run's `clusterer`; `batch`: rows of a mini-batch). `centroids`: a centroids.npz of an
    earlier run, of one layer of the same model: nothing is fitted, the layer is that one.
    """

    clusters: int = 100
    fit_frames: int = 200_000
    batch: int = 10_000
    centroids: str | None = None

    def __post_init__(self) -> None:
        require_at_least("units.clusters", self.clusters, 2)
        require_at_least("units.fit_frames", self.fit_frames, 20)
        require_at_least("units.batch", self.batch, 1)
