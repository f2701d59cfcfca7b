"""One picture of a run: a panel for each experiment, the same bytes for the same numbers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from marks import slow
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread
from running import python

from analysis.plots import COLOURS, LEAST, plot_layers, plot_panel, widen
from common.results.results import summarise

CNN = [f"C{i}" for i in range(1, 4)]
BLOCKS = [f"T{i}" for i in range(4)]


def scores(
    experiments: Sequence[str] = ("cca_mel",),
    layers: Sequence[str] = (*CNN, *BLOCKS),
    trials: int = 3,
) -> pd.DataFrame:
    """Rows with the columns that a picture is made from."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {
                "model": "toy",
                "experiment": experiment,
                "metric": "pwcca",
                "part": "cnn" if layer.startswith("C") else "transformer",
                "layer_index": int(layer[1:]),
                "layer": layer,
                "target": "mel",
                "value": rng.uniform(0, 1),
                "primary": True,
                "control": "",
                "low": np.nan,
                "high": np.nan,
                "weighted": "",
            }
            for experiment in experiments
            for layer in layers
            for _ in range(trials)
        ]
    )


def panel(frame: pd.DataFrame, k: int = 0) -> Axes:
    axes = Figure().subplots()
    plot_panel(axes, k, "cca_mel", summarise(frame))
    return axes


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved."""
    saved: list[Figure] = []
    save = Figure.savefig

    def remember(self: Figure, *args: object, **keys: object) -> None:
        saved.append(self)
        save(self, *args, **keys)

    monkeypatch.setattr(Figure, "savefig", remember)
    return saved


def titles(figure: Figure) -> list[str]:
    return [axes.get_title("left") for axes in figure.axes if axes.axison]


FULL = {
    "cca_mel": "acoustic",
    "cca_intra": "layers",
    **dict.fromkeys(("cca_phone", "probe_phone", "mi_phone", "mi_phone_frame"), "phonetic"),
    **dict.fromkeys(("cca_word", "cca_agwe", "mi_word", "probe_word", "abx", "dtw"), "word"),
    **dict.fromkeys(("cca_glove", "cca_syntactic", "spoken_sts", "similarity"), "meaning"),
    "phone_segmentation": "segmentation",
    "word_segmentation": "segmentation",
}


def rows_of(figure: Figure) -> list[list[str]]:
    """Titles of the panels, row by row."""
    found: dict[int, list[str]] = {}
    for axes in figure.axes:
        spec = axes.get_subplotspec()
        assert spec is not None
        if axes.axison:
            found.setdefault(spec.rowspan.start, []).append(axes.get_title("left"))
    return list(found.values())


@pytest.mark.slow
def test_panels_are_grouped_by_what_they_ask_three_rows_to_a_page(
    tmp_path: Path, figures: list[Figure]
) -> None:
    names = list(FULL)[::-1]  # in an order that is not the groups'
    paths = plot_layers(scores(names), tmp_path, "toy on speech", FULL)
    assert [path.stem for path in paths[::2]] == ["layers", "layers_2", "layers_3"]
    pages = [rows_of(figure) for figure in figures[::2]]  # each is saved twice
    assert sorted(name for page in pages for row in page for name in row) == sorted(FULL)
    for page in pages:
        assert len(page) <= 3
        assert max(map(len, page)) <= 3
    at = {name: k for k, page in enumerate(pages) for row in page for name in row}
    for question in set(FULL.values()):
        assert len({at[name] for name in FULL if FULL[name] == question}) == 1  # on one page
    heads = [
        [t.get_text() for axes in f.axes for t in axes.texts if t.get_fontweight() == "bold"]
        for f in figures[::2]
    ]
    assert heads == [
        ["Acoustics", "Layers against layers", "Phones"],
        ["Words"],
        ["Meaning", "Segmentation"],
    ]
    for path in paths[::2]:
        tall, wide, _ = imread(path).shape
        assert tall < wide


@pytest.mark.slow
def test_the_parts_names_do_not_run_into_titles_and_headings(
    tmp_path: Path, figures: list[Figure]
) -> None:
    names = list(FULL)[2:12]
    plot_layers(scores(names), tmp_path, "toy on speech", FULL)
    figures[0].draw_without_rendering()
    boxes = []
    for axes in figures[0].axes:
        texts = [*axes.texts, *([axes._left_title] if axes.axison else [])]  # type: ignore[attr-defined]
        boxes += [text.get_window_extent() for text in texts]
    assert len(boxes) > 10
    assert not any(one.overlaps(other) for k, one in enumerate(boxes) for other in boxes[k + 1 :])


@pytest.mark.parametrize("n", [slow(1), 2, slow(3), slow(4)])
def test_every_experiment_has_a_panel(n: int, tmp_path: Path, figures: list[Figure]) -> None:
    names = ["cca_mel", "cca_intra", "cca_phone", "cca_word"][:n]
    paths = plot_layers(scores(names), tmp_path, "toy on speech")
    assert [path.name for path in paths] == ["layers.png", "layers.svg"]
    assert titles(figures[0]) == names  # in the order of the run
    height, width, _ = imread(paths[0]).shape
    assert min(height, width) > 400
    svg = paths[1].read_text()
    assert svg.startswith("<?xml")
    assert "toy on speech" in svg


def test_intervals_are_bars_at_their_layers() -> None:
    frame = scores(layers=BLOCKS)
    frame["low"], frame["high"] = 0.25, 0.75
    bars = panel(frame).collections[1].get_segments()
    np.testing.assert_allclose(bars, [[[x, 0.25], [x, 0.75]] for x in range(len(BLOCKS))])


def test_the_same_numbers_give_the_same_bytes(tmp_path: Path) -> None:
    written = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        written.append(plot_layers(scores(["a", "b"]), tmp_path / folder, "title"))
    for one, two in zip(*written, strict=True):
        assert one.read_bytes() == two.read_bytes()


def test_a_panel_draws_means_and_a_band_of_one_deviation() -> None:
    frame = scores()
    axes = panel(frame)
    values = {layer: of_layer.to_numpy() for layer, of_layer in frame.groupby("layer")["value"]}
    cnn, blocks = axes.lines  # the CNN is not joined to the blocks
    for line, layers in ((cnn, CNN), (blocks, BLOCKS)):
        np.testing.assert_allclose(line.get_ydata(), [values[layer].mean() for layer in layers])
    assert [text.get_text() for text in axes.get_xticklabels()] == [*CNN, *BLOCKS]
    (vertices,) = (path.vertices for path in axes.collections[1].get_paths())
    for x, layer in enumerate(BLOCKS, start=len(CNN)):
        edge = vertices[vertices[:, 0] == x, 1]
        mean, std = values[layer].mean(), values[layer].std(ddof=1)
        assert edge.max() == pytest.approx(mean + std)
        assert edge.min() == pytest.approx(mean - std)


def test_layers_come_in_the_order_of_the_model_whatever_the_rows_order() -> None:
    layers = [*CNN, *(f"T{i}" for i in range(13))]
    shuffled = scores(layers=layers).sample(frac=1, random_state=0)
    axes = panel(shuffled)
    assert [text.get_text() for text in axes.get_xticklabels()] == layers  # T10 after T9


def test_both_parts_are_named_and_the_cnn_is_shaded() -> None:
    axes = panel(scores())
    assert {text.get_text() for text in axes.texts} == {"CNN", "transformer"}
    assert len(axes.patches) == 1


@pytest.mark.parametrize(("layers", "name"), [(BLOCKS, "transformer"), (CNN, "CNN")])
def test_one_part_alone(layers: list[str], name: str, tmp_path: Path) -> None:
    axes = panel(scores(layers=layers))
    assert [text.get_text() for text in axes.texts] == [name]
    assert len(axes.lines) == 1
    assert len(axes.patches) == (1 if name == "CNN" else 0)
    assert all(path.stat().st_size for path in plot_layers(scores(layers=layers), tmp_path, ""))


def test_one_score_of_one_layer_is_drawn_as_a_point(tmp_path: Path) -> None:
    frame = scores(layers=["T3"], trials=1)  # no deviation
    axes = panel(frame)
    (line,) = axes.lines
    np.testing.assert_allclose(line.get_ydata(), frame["value"])
    assert line.get_marker() not in ("", "None")
    low, high = axes.get_xlim()
    assert low < 0 < high
    assert all(path.exists() for path in plot_layers(frame, tmp_path, "one"))


def test_panels_differ_in_grey_too() -> None:
    lines = [panel(scores(layers=BLOCKS), k).lines[0] for k in range(4)]
    assert len({(line.get_marker(), line.get_linestyle()) for line in lines}) == 4
    assert [to_hex(line.get_color()).upper() for line in lines] == list(COLOURS[:4])


def test_experiments_with_different_layers_share_a_picture(
    tmp_path: Path, figures: list[Figure]
) -> None:
    frame = pd.concat([scores(["cca_mel"]), scores(["cca_phone"], layers=BLOCKS)])
    plot_layers(frame, tmp_path, "mixed")
    ticks = [[t.get_text() for t in axes.get_xticklabels()] for axes in figures[0].axes]
    assert ticks == [[*CNN, *BLOCKS], BLOCKS]


@pytest.mark.parametrize(("low", "high"), [(0.17, 0.18), (0.996, 1.0), (0.1, 0.5)])
def test_a_flat_curve_is_not_blown_up_and_no_scale_is_widened_beyond_one(
    low: float, high: float
) -> None:
    axes = Figure().add_subplot()
    axes.plot([0, 1], [low, high])
    shown = axes.get_ylim()
    widen(axes, LEAST)
    bottom, top = axes.get_ylim()
    assert top - bottom == pytest.approx(max(0.1, shown[1] - shown[0]))
    assert bottom < low < high < top <= max(shown[1], 1.005)


def flat(values: Sequence[float], std: float) -> pd.DataFrame:
    """Two samples of each layer, of this standard deviation."""
    frame = scores(layers=BLOCKS, trials=2)
    frame["value"] = np.repeat(values, 2) + np.tile([-1, 1], len(values)) * std / np.sqrt(2)
    return frame


def height(frame: pd.DataFrame) -> float:
    bottom, top = panel(frame).get_ylim()
    return top - bottom


def test_small_scores_have_a_readable_scale_and_noise_around_nothing_has_not() -> None:
    small = [0.0042, 0.0044, 0.0041, 0.0043]
    assert 0.0044 <= height(flat(small, 0)) < 0.006  # level and differences, in proportion
    assert height(flat(small, 0.004)) >= 0.04  # they may be noise
    assert height(flat([0.01, -0.01, 0.005, 0], 0.01)) == pytest.approx(0.1)
    assert height(flat([0.81, 0.82, 0.8, 0.81], 0.001)) == pytest.approx(0.1)
    one = scores(layers=BLOCKS, trials=1)
    assert height(one.assign(value=[0.004, 0.005, 0.003, 0.004])) == pytest.approx(0.1)


def test_a_control_that_is_weighed_by_another_view_is_named_so() -> None:
    frame = scores(layers=BLOCKS).assign(weighted="target")
    mel = frame[:3].assign(control="mel", layer="mel", part="mel", layer_index=0)
    shuffled = frame.assign(control="shuffled_labels")
    for side, name in (("target", "mel"), ("layer", "mel (not comparable)")):
        every = pd.concat([frame, mel.assign(weighted=side), shuffled])
        legend = panel(every).get_legend()
        assert legend is not None
        assert [text.get_text() for text in legend.get_texts()] == [name, "shuffled labels"]


def test_secondary_figures_are_no_curves(tmp_path: Path, figures: list[Figure]) -> None:
    frame = scores()
    plot_layers(pd.concat([frame, frame.assign(metric="n", primary=False)]), tmp_path, "title")
    (axes,) = figures[0].axes
    assert len(axes.lines) == 2  # CNN and blocks
    assert axes.get_legend() is None


def test_controls_are_grey_lines_that_are_in_sight() -> None:
    frame = scores(layers=BLOCKS).assign(value=lambda f: f["value"] / 100 + 0.9)
    untrained = frame.assign(control="random_weights", value=frame["value"] - 0.7)
    mel = frame[:3].assign(control="mel", layer="mel", layer_index=0, part="mel", value=0.1)
    axes = panel(pd.concat([frame, untrained, mel]))
    (curve, *controls) = axes.lines
    assert len({line.get_color() for line in controls}) == 1
    assert curve.get_color() != controls[0].get_color()
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    by_name = dict(zip(names, controls, strict=True))
    np.testing.assert_allclose(by_name["random weights"].get_ydata(), curve.get_ydata() - 0.7)
    np.testing.assert_allclose(by_name["mel"].get_ydata(), 0.1)
    assert tuple(by_name["mel"].get_xdata()) == axes.get_xlim()
    bottom, top = axes.get_ylim()
    assert bottom < 0.1 < 0.9 < top
    assert [text.get_text() for text in axes.get_xticklabels()] == BLOCKS


def test_a_control_of_a_layer_whose_score_failed_is_left_out() -> None:
    frame = scores(layers=BLOCKS)
    untrained = frame.assign(control="random_weights")
    axes = panel(pd.concat([frame[frame["layer"] != BLOCKS[1]], untrained]))
    curve, control = axes.lines
    assert len(control.get_xdata()) == len(curve.get_xdata()) == len(BLOCKS) - 1


@pytest.mark.slow
def test_drawing_needs_no_pyplot() -> None:
    """Which would look for a display, and keep every figure of a sweep."""
    code = "import sys; import analysis.plots; print('matplotlib.pyplot' in sys.modules)"
    done = python("-c", code)
    assert done.stdout.strip() == "False", done.stderr
