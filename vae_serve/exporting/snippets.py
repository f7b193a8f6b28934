"""The examples for other runtimes, as they are in `examples/` and as the tests run them, for a bundle's README."""

from pathlib import Path

LANGUAGES = {".py": "python", ".mjs": "javascript", ".html": "html", ".cpp": "cpp"}


def examples() -> Path:
    """Their folder: in an installed package beside this module, in a checkout at its top."""
    packaged = Path(__file__).parent / "examples"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "examples"


def fenced(file: Path) -> str:
    """An example as a markdown code block."""
    return f"```{LANGUAGES[file.suffix]}\n{file.read_text(encoding='utf-8')}```\n"


def section() -> str:
    """Markdown: every example, folded."""
    parts = ["## In other runtimes\n\nEach gives the outputs in `conformance/` within the tolerance stated there.\n"]
    for file in sorted(examples().iterdir()):
        if file.suffix in LANGUAGES:
            parts.append(f"<details><summary><code>{file.name}</code></summary>\n\n{fenced(file)}\n</details>\n")
    return "\n".join(parts)
