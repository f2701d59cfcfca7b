"""What the documentation says of the code, taken from the code: a hook of mkdocs.

A page holds `<!-- generate: KIND ARGUMENT -->`; the comment becomes a table or a text made from
`conf/`, from the types of the configuration or from a docstring, so that none of it can go stale.
Nothing of the project that imports torch is imported. A fence `math` of LaTeX becomes MathML, which
browsers draw without a script.
"""

import ast
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from inspect import cleandoc
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from common import config
from common.config import finetune as finetune_config

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
MARK = re.compile(r"<!-- generate: (\w+)(?: ([\w./]+))? -->")
# Classes of the configuration by the key that holds each; "" is the top.
SECTIONS = {
    "": "Config",
    "model": "ModelConfig",
    "layers": "LayersConfig",
    "protocol": "ProtocolConfig",
    "sampling": "SamplingConfig",
    "experiments.NAME": "AnalysisConfig",
    "target": "TargetOverrides",
    "experiments.NAME.sampling": "UnitSampling",
    "tracking": "TrackingConfig",
    "report": "ReportConfig",
    "features": "FeaturesConfig",
    "units": "UnitsConfig",
    "pretrain": "PretrainConfig",
    "finetune": "FinetuneConfig",
    "finetune.train": "PartConfig",
    "finetune.adapters": "AdaptersConfig",
    "finetune.augment": "AugmentConfig",
    "finetune.lm": "LanguageModelConfig",
    "recognition": "RecognitionConfig",
    "paths": "PathsConfig",
}


def on_page_markdown(markdown: str, **_: object) -> str:
    """Fill the marks of a page; called by mkdocs."""
    return filled(markdown)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each notebook, as it was executed; called by mkdocs."""
    for path in sorted((ROOT / "docs").glob("*.ipynb")):
        files.append(File.generated(config, f"{path.stem}.md", content=page_of(path)))
    return files


def page_of(notebook: Path) -> str:
    """A notebook as Markdown: its texts, its code, and what the code put out."""
    parts = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts += [_output(output) for output in cell.get("outputs", [])]
    return "\n\n".join(parts)


def _output(output: Mapping[str, Any]) -> str:
    """What a cell put out: a picture or a table where it has one, else text."""
    data = output.get("data", {})
    if "image/png" in data:
        source = f"data:image/png;base64,{data['image/png'].strip()}"
        return f'<img alt="What the cell drew" src="{source}">'
    if "text/html" in data:
        html = re.sub(r"<style.*?</style>", "", "".join(data["text/html"]), flags=re.DOTALL)
        return re.sub(r"<table[^>]*>", "<table>", html)  # in the theme's own style
    text = "".join(data.get("text/plain", output.get("text", "")))
    return f"```text\n{text.rstrip()}\n```"


def filled(markdown: str) -> str:
    """A page's text with every mark replaced; an unknown one is an error."""
    return MARK.sub(lambda match: KINDS[match[1]](*filter(None, match.groups()[1:])), markdown)


def mathml(source: str, *_: object, **__: object) -> str:
    """A fence of LaTeX as MathML: called by the extension superfences."""
    lines = [convert(line, display="block") for line in source.strip().split("\n\n")]
    return f'<div class="math">{"".join(lines)}</div>'


def options(group: str) -> list[str]:
    """Names of the options of a group of conf/, in order."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@cache
def text_of(option: str) -> str:
    """The file of an option, `group/name`."""
    return (CONF / f"{option}.yaml").read_text(encoding="utf-8")


@cache
def content(option: str) -> dict[str, Any]:
    """What the file of an option holds."""
    return yaml.safe_load(text_of(option)) or {}


def comment(option: str) -> str:
    """The comment at the head of an option's file, as one paragraph."""
    lines = [line for line in text_of(option).splitlines() if not line.startswith("# @package")]
    head = []
    for line in lines:
        if not line.startswith("#"):
            break
        head.append(line.lstrip("# ").rstrip())
    return " ".join(head)


def chosen(node: Mapping[str, Any], group: str) -> str:
    """The option that a file's defaults choose of another group."""
    for entry in node.get("defaults", []):
        if isinstance(entry, dict):
            for key, value in entry.items():
                if key.split("@")[0].split()[-1] == f"/{group}":
                    return str(value)
    return ""


def leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key and value below a node, with dots between the names."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def shown(value: object) -> str:
    """A value as one would type it on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    return str(value)


def code(value: object) -> str:
    """A value in the type of code; an empty one is left empty."""
    return f"`{shown(value)}`" if shown(value) else ""


def escaped(text: str) -> str:
    """Prose of docstrings and comments as Markdown: outside of code, `<` begins no tag."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else part.replace("<", "&lt;") for part in parts)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    cells = ([cell.replace("|", r"\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def target_of(analysis: Mapping[str, Any]) -> str:
    """The class of what the units of an analysis are compared with."""
    return str(analysis["target"]["_target_"]).split(".")[-1]


def targets() -> str:
    """A section for each target that an analysis uses, and which do."""
    users: dict[str, list[str]] = {}
    for name in config.analyses():
        users.setdefault(content(f"analysis/{name}")["target"]["_target_"], []).append(name)
    parts = []
    for target, names in users.items():
        links = ", ".join(f"[`{name}`](experiments/{name}.md)" for name in names)
        parts.append(f"### `{target.split('.')[-1]}`\n\n`_target_: {target}` of {links}.")
        parts.append(docstring(target))
    return "\n\n".join(parts)


def experiments() -> str:
    """A table for each kind of question, with a row for each analysis that asks it."""
    asked: dict[str, list[list[str]]] = {}
    for name in config.analyses():
        node = content(f"analysis/{name}")
        metric = chosen(node, "metric")
        row = [
            f"[`{name}`]({name}.md)",
            escaped(comment(f"analysis/{name}")),
            f"{code(node['unit'])} {code(target_of(node))}",
            f"[`{metric}`](../metrics.md#{metric})",
        ]
        asked.setdefault(node.get("asks", "other"), []).append(row)
    head = ["experiment", "what it is", "unit, target", "metric"]
    parts = [f"**{asks.capitalize()}**\n\n{table(head, rows)}" for asks, rows in asked.items()]
    return "\n\n".join(parts)


def other_experiments() -> str:
    """A row for each experiment that is not one analysis."""
    names = [name for name in options("experiment") if name not in options("analysis")]
    rows = [[f"`experiment={name}`", escaped(comment(f"experiment/{name}"))] for name in names]
    return table(["experiment", "what it does"], rows)


def protocol(name: str) -> str:
    """What an analysis draws and compares: the keys of its file."""
    node = content(f"analysis/{name}")
    metric = chosen(node, "metric")
    rows = [["metric", f"[`{metric}`](../metrics.md#{metric})"]]
    for key, value in leaves({k: v for k, v in node.items() if k != "defaults"}):
        rows.append([code(key), escaped(value) if key == "target.obtain" else code(value)])
    return f"{escaped(comment(f'analysis/{name}'))}\n\n{table(['key', 'value'], rows)}"


def models() -> str:
    """A row for each model."""
    rows = []
    for name in options("model"):
        node = content(f"model/{name}")
        rows.append(
            [f"`model={name}`", code(node["checkpoint"]), escaped(comment(f"model/{name}"))]
        )
    return table(["option", "checkpoint", "what it is"], rows)


def datasets() -> str:
    """A section for each corpus: its comment, its keys and what its class says."""
    parts = []
    for name in options("dataset"):
        target = content(f"dataset/{name}")["_target_"]
        parts.append(f"### `dataset={name}` {{ #{name} }}")
        parts.append(escaped(comment(f"dataset/{name}")))
        parts.append(keys_of(f"dataset/{name}"))
        parts.append(f'??? note "What its class says"\n\n{indented(docstring(target))}')
    return "\n\n".join(parts)


def keys_of(option: str) -> str:
    """The keys of an option's file with their values and the comments beside them."""
    lines = text_of(option).splitlines()
    group = option.split("/")[0]
    rows = []
    for key, value in content(option).items():
        if key in ("_target_", "defaults"):
            continue
        line = next(line for line in lines if line.startswith(f"{key}:"))
        beside = line.partition(" # ")[2]
        value_shown = "*to be given*" if value == "???" else code(value)
        rows.append([f"`{group}.{key}`", value_shown, escaped(beside)])
    return table(["key", "default", "meaning"], rows)


def metrics() -> str:
    """A section for each metric: what its class says, and its settings."""
    parts = []
    for name in options("metric"):
        node = content(f"metric/{name}")
        parts.append(f"### `metric={name}` {{ #{name} }}")
        parts.append(docstring(node["_target_"]))
        if len(node) > 1:
            parts.append(keys_of(f"metric/{name}"))
    return "\n\n".join(parts)


def recipes() -> str:
    """A row for each recipe of fine-tuning."""
    rows = [[f"`finetune={n}`", escaped(comment(f"finetune/{n}"))] for n in options("finetune")]
    return table(["option", "what it is"], rows)


def protocols() -> str:
    """A row for each protocol: what it is, and what it sets."""
    rows = []
    for name in options("protocol"):
        node = {k: v for k, v in content(f"protocol/{name}").items() if k != "defaults"}
        node["protocol"] = {k: v for k, v in node["protocol"].items() if k != "name"}
        if metric := chosen(content(f"protocol/{name}"), "metric"):
            node["protocol"]["metric"] = metric
        keys = ", ".join(f"`{key}={shown(value)}`" for key, value in leaves(node))
        rows.append([f"`protocol={name}`", escaped(comment(f"protocol/{name}")), keys])
    return table(["option", "what it is", "what it sets"], rows)


def groups() -> str:
    """A row for each group of conf/ with its options."""
    names = sorted(path.name for path in CONF.iterdir() if path.is_dir())
    chosen = {name: options(name) for name in names}
    chosen["experiment"] = sorted({*chosen["experiment"], *chosen["analysis"]})
    rows = [[f"`{name}`", ", ".join(f"`{one}`" for one in chosen[name])] for name in names]
    return table(["group", "options"], rows)


def modules(package: str) -> str:
    """A row for each part of a package: its folders, then its files, with what each says it is."""
    folder = ROOT / package
    names = [path.parent.name for path in sorted(folder.glob("*/__init__.py"))]
    names += [path.stem for path in sorted(folder.glob("*.py")) if path.stem != "__init__"]
    rows = []
    for name in names:
        first = docstring(f"{package}.{name}").split("\n\n")[0]
        shown_name = f"{name}/" if (folder / name).is_dir() else f"{name}.py"
        rows.append([f"`{shown_name}`", first])
    return table([package, "what it is"], rows)


def docstring(name: str) -> str:
    """The docstring of a module, class or function, found without importing it."""
    return escaped(cleandoc(_documented(name)))


def _documented(name: str) -> str:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        stem = ROOT.joinpath(*parts[:length])
        for path in (stem.with_suffix(".py"), stem / "__init__.py"):
            if path.is_file():
                node: ast.AST = ast.parse(path.read_text(encoding="utf-8"))
                for inner in parts[length:]:
                    node = _member(node, inner, path)
                text = ast.get_docstring(node)  # type: ignore[arg-type]
                if text is None:
                    raise LookupError(f"{name} has no docstring")
                return text
    raise LookupError(f"there is no {name}")


def _member(node: ast.AST, name: str, path: Path) -> ast.AST:
    """A class or function of that name inside a module or class."""
    for child in ast.iter_child_nodes(node):
        if getattr(child, "name", None) == name:
            return child
    raise LookupError(f"{path} has no {name}")


def indented(text: str) -> str:
    """Text inside of a block of four spaces."""
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


def configuration() -> str:
    """A section for each class of the configuration: its docstring and its keys."""
    known = {**vars(finetune_config), **vars(config)}
    parts = []
    for key, name in SECTIONS.items():
        cls = known[name]
        parts.append(f"## {f'`{key}`' if key else 'Top level'} {{ #{name.lower()} }}")
        parts.append(docstring(f"{cls.__module__}.{name}"))
        parts.append(_keys(cls, key))
    return "\n\n".join(parts)


def _keys(cls: type, prefix: str) -> str:
    hints = get_type_hints(cls)
    rows = []
    for one in fields(cls):
        kind = hints[one.name]
        if one.default is not MISSING:
            default = code(one.default if one.default != "???" else "of the chosen option")
        elif one.default_factory is not MISSING and not is_dataclass(kind):
            default = code(one.default_factory() or "")
        else:
            default = ""
        dotted = f"{prefix}.{one.name}" if prefix else one.name
        rows.append([f"`{dotted}`", default, f"`{_named(kind)}`"])
    return table(["key", "default", "type"], rows)


def _named(kind: Any) -> str:
    """A type as its name alone."""
    return kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)


KINDS: Mapping[str, Callable[..., str]] = {
    function.__name__: function
    for function in (
        *(experiments, other_experiments, protocol, models, datasets, metrics, recipes, groups),
        *(protocols, targets, modules),
        *(docstring, configuration, keys_of),
    )
}
