"""The options of every group of conf/, and what each leaves for the user to say."""

from pathlib import Path

from running import ROOT

CONF = ROOT / "conf"
FILES = {(path.parent.relative_to(CONF).as_posix(), path.stem) for path in CONF.glob("*/*.yaml")}
# Every analysis is an experiment of its own, with or without a file.
OPTIONS = sorted(FILES | {("experiment", name) for group, name in FILES if group == "analysis"})
SIMILARITIES = ["pwcca", "mean_cca", "svcca", "cka", "cka_debiased", "pwcca_published"]
# What an option leaves for the user to say.
LACKING = {
    ("dataset", "textgrid"): ["dataset.audio_root={tmp}"],
    ("dataset", "librispeech_local"): ["dataset.audio_root={tmp}", "dataset.alignment_root=null"],
    ("dataset", "timit"): ["dataset.root={tmp}"],
    ("dataset", "recordings"): ["dataset.audio_root={tmp}"],
    ("dataset", "ctm"): ["dataset.audio_root={tmp}", "dataset.words={tmp}"],
    ("dataset", "elan"): ["dataset.audio_root={tmp}"],
    ("dataset", "buckeye"): ["dataset.root={tmp}"],
    ("dataset", "emodb"): ["dataset.root={tmp}"],
    ("dataset", "kaldi"): ["dataset.root={tmp}"],
    ("dataset", "nemo"): ["dataset.manifest={tmp}/wav.scp"],
    ("dataset", "lhotse"): [
        "dataset.recordings={tmp}/wav.scp",
        "dataset.supervisions={tmp}/wav.scp",
    ],
    ("dataset", "hub"): ["dataset.repo_id=owner/name"],
    ("model", "hf"): ["model.checkpoint=owner/name"],
    ("layers", "single"): ["layers.index=3"],
    ("experiment", "growth"): ["snapshots={tmp}"],
    ("experiment", "evaluate"): ["model.checkpoint=owner/name"],
    ("experiment", "transcribe"): ["model.checkpoint=owner/name"],
    ("experiment", "cca_glove"): ["target.path={tmp}"],
    ("experiment", "cca_agwe"): ["target.path={tmp}"],
    ("experiment", "cca_frames"): ["target.path={tmp}"],
    ("experiment", "phonetic_semantic"): ["target.path={tmp}"],
    ("experiment", "cca_label"): ["target.column=speaker"],
    ("experiment", "mi_label"): ["target.column=speaker"],
    ("experiment", "probe_label"): ["target.column=speaker"],
    ("experiment", "cca_number"): ["target.column=age"],
    ("experiment", "probe_number"): ["target.column=age"],
    ("experiment", "cca_semantic"): ["target.path={tmp}"],
    ("experiment", "cca_syntactic"): ["target.path={tmp}"],
    ("experiment", "spoken_sts"): ["target.path={tmp}"],
    ("experiment", "word_similarity"): ["target.path={tmp}"],
}
# Recipes for Libri-light's lists name a folder of their own.
LACKING |= {
    ("finetune", f"libri_{size}{kind}"): ["finetune.train.dataset.root={tmp}"]
    for size in ("10m", "1h", "10h")
    for kind in ("", "_large")
} | {
    ("finetune", name): ["finetune.train.dataset.root={tmp}"]
    for name in ("libri_10m_unfrozen", "authors")
}
LACKING[("dataset", "librilight")] = ["dataset.root={tmp}"]


def lacking(case: dict[str, str], tmp: Path) -> list[str]:
    """What the options of a case leave for the user to say, with something in `tmp`."""
    more = [more for option in case.items() for more in LACKING.get(option, [])]
    return [override.format(tmp=tmp) for override in more]


def libri_light(root: Path) -> None:
    """Folders as those of Libri-light's release, with nothing in them."""
    for folder in ("1h/0", "9h"):
        (root / folder).mkdir(parents=True)
