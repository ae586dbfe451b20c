"""The documentation is complete, up to date and true: its pages, its examples, its links."""

import contextlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import PIL.Image
import pytest

import kosmos
from kosmos.cli.main import COMMANDS, cli
from kosmos.corpus.formats.table import FORMATS
from kosmos.document.shards import ShardReader
from kosmos.evaluate.suite import TASKS
from kosmos.microcosm.config import MicrocosmConfig
from kosmos.microcosm.dataset import make
from kosmos.recipes.microcosm import NUM_CELLS, NUM_PIECES
from kosmos.recipes.table import RECIPES
from kosmos.text.tokenizer import Tokenizer
from kosmos.text.training import train_tokenizer
from kosmos.weights.folder import save_model
from tests.tiny import tiny_config, tiny_image, tiny_layout, tiny_model
from tools import examples, reference
from tools.pages.config import CONFIG_ROOTS, reachable

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
WRITTEN = [
    *ROOT.glob("*.md"),
    *(ROOT / "decisions").glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
]
RUN = [page for page in examples.PAGES if examples.blocks_of(page.read_text(encoding="utf-8"))]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command with what a person types for it, subcommands too."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the quickstart leaves, but for the training: a world, and a model of random weights."""
    folder = tmp_path_factory.mktemp("docs") / "quickstart"
    make(MicrocosmConfig(num_scenes=400, num_heldout=4, num_eval=4), folder / "microcosm")
    texts = [
        line
        for part in (folder / "microcosm" / "train").iterdir()
        for doc in ShardReader(part)
        for line in kosmos.parse_markup(doc.text, lenient=True).text.splitlines()
    ]
    file = folder / "microcosm" / "tokenizer.model"
    file.write_bytes(train_tokenizer(sorted(texts), num_pieces=NUM_PIECES))
    tokenizer = Tokenizer.load(file, num_cells=NUM_CELLS)
    config = tiny_config(vocab_size=tokenizer.vocabulary.size)
    save_model(
        folder / "model",
        model=tiny_model(config),
        tokenizer=tokenizer,
        image=tiny_image(config),
        layout=tiny_layout(config),
        provenance={"made by": "tests"},
    )
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(folder / "picture.png")
    return folder


@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_examples_do_what_the_page_says(page: Path, quickstart: Path, tmp_path: Path) -> None:
    if "transformers" in page.read_text(encoding="utf-8"):
        pytest.importorskip("transformers")
    examples.lay_out(quickstart, tmp_path)
    with contextlib.chdir(tmp_path):
        for block, printed in examples.run_page(page.read_text(encoding="utf-8")):
            if not block.is_loose:
                assert examples.agrees(block.body, printed), (
                    f"{name_of(page)}:{block.line} shows\n{block.body}\nand prints\n{printed}"
                )


@pytest.mark.parametrize("page", list(reference.pages()), ids=name_of)
def test_generated_pages_are_up_to_date(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == reference.pages()[page], "run: make docs"


def test_no_page_in_the_reference_is_written_by_hand() -> None:
    assert set(REFERENCE.glob("*.md")) == {p for p in reference.pages() if p.parent == REFERENCE}


@pytest.mark.parametrize(("path", "command"), list(commands(cli, "kosmos")))
def test_every_command_and_option_is_documented(path: str, command: click.Command) -> None:
    page = (REFERENCE / "cli.md").read_text(encoding="utf-8")
    assert re.search(rf"^#+ {re.escape(path)}$", page, flags=re.MULTILINE)
    assert command.help
    for param in command.params:
        if isinstance(param, click.Option):
            assert param.help, f"{path} {param.name}"
            assert f"`{param.opts[-1]}" in page, f"{path} {param.name}"


def test_help_of_import_names_every_format() -> None:
    (command,) = (found for path, found in commands(cli, "kosmos") if path == "kosmos data import")
    named = set(re.findall(r"[\w-]+", command.get_help(click.Context(command))))
    assert set(FORMATS) <= named


def test_every_command_has_its_help_in_the_table() -> None:
    assert all(COMMANDS.values())
    assert all(text.endswith(".") for text in COMMANDS.values())


def test_every_recipe_is_documented() -> None:
    page = (REFERENCE / "recipes.md").read_text(encoding="utf-8")
    for name, recipe in RECIPES.items():
        assert f"\n## {name}\n" in page
        for promise in ("Command: ", "Hardware and time: ", "Should reach: "):
            assert promise in (recipe.__doc__ or ""), f"{name}: {promise}"


def test_every_task_and_metric_is_documented() -> None:
    page = (REFERENCE / "tasks.md").read_text(encoding="utf-8")
    for name, task in TASKS.items():
        assert f"\n## {name}\n" in page
        assert all(f"| `{metric.name}` |" in page for metric in task.metrics)


def test_every_config_field_is_documented() -> None:
    page = (REFERENCE / "config.md").read_text(encoding="utf-8")
    for root in (root for roots in CONFIG_ROOTS.values() for root in roots):
        for config in reachable(root):
            section = page.partition(f"\n### {config.__name__}\n")[2].partition("\n### ")[0]
            for name in config.__annotations__:
                assert f"| `{name}` |" in section, f"{config.__name__}.{name}"


def test_every_public_name_is_documented_and_every_documented_name_is_public() -> None:
    page = (REFERENCE / "python.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.*)$", page, flags=re.MULTILINE)
    assert sections[:-2] == kosmos.__all__


def test_readme_states_the_sizes_of_the_models() -> None:
    from kosmos.plan.plan import plan

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for recipe in ("kosmos1", "kosmos2", "kosmos2-released"):
        found = plan(RECIPES[recipe]())
        rows = [line for line in text.splitlines() if line.endswith(f"| `{recipe}` |")]
        assert any(f"| {found.num_parameters:,} |" in row for row in rows)
        if found.stated_total_tokens:
            assert any(f"| {found.tokens_per_step:,.0f} |" in row for row in rows)
            assert any(f"| {found.total_tokens:,.0f} |" in row for row in rows)


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = without_code(page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), f"{target}: no such file"
        assert linked.is_relative_to(ROOT), f"{target}: outside the repository"
        if anchor:
            assert anchor in anchors(linked), f"{target}: no such heading"


def test_every_page_is_linked_from_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        relative = page.relative_to(ROOT / "docs")
        assert str(relative) == "README.md" or f"({relative})" in index


def test_the_version_is_the_same_everywhere() -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        version = tomllib.load(file)["project"]["version"]
    assert kosmos.__version__ == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    text = without_code(page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
