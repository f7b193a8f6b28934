"""What is public, name by name and signature by signature: who changes one of them sees it here."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

import vae_serve

HELD = Path(__file__).parent / "public_names.txt"


def signature(function: Any) -> str:
    """Parameters and defaults. Their types are told in other words by each version of Python and NumPy."""
    told = inspect.signature(function)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in told.parameters.values()]
    return str(told.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def described() -> str:
    """A line for each public name, signature, field and property."""
    lines = []
    for name in sorted(vae_serve.__all__):
        value = getattr(vae_serve, name)
        if inspect.isclass(value):
            lines.append(f"class {name}")
            if issubclass(value, msgspec.Struct):
                lines += [f"    {name}" for name in value.__struct_fields__]
            for member, what in sorted(inspect.getmembers_static(value)):
                if not member.startswith("_") and isinstance(what, property):
                    lines.append(f"    {member} (property)")
                elif not member.startswith("_") and callable(getattr(value, member)):
                    lines.append(f"    {member}{signature(getattr(value, member))}")
        elif inspect.isfunction(value):
            lines.append(f"{name}{signature(value)}")
        elif inspect.ismodule(value):
            tree = [error for error in vars(value).values() if inspect.isclass(error)]
            lines += [f"{name}.{error.__name__}({error.__mro__[1].__name__})" for error in tree]
        else:
            lines.append(f"{name}: {type(value).__name__}")
    return "\n".join(lines) + "\n"


def test_the_public_names_and_signatures_are_those_that_are_written_down():
    assert described() == HELD.read_text(encoding="utf-8")


def test_dir_shows_what_is_public_and_nothing_else():
    assert dir(vae_serve) == sorted(vae_serve.__all__)


def test_every_public_name_says_what_it_is():
    for name in vae_serve.__all__:
        value = getattr(vae_serve, name)
        assert name == "__version__" or inspect.getdoc(value)
        if inspect.isclass(value):
            for member in vars(value):
                field = member in getattr(value, "__struct_fields__", ())
                assert member.startswith("_") or field or inspect.getdoc(getattr(value, member))


def test_another_name_is_no_attribute():
    with pytest.raises(AttributeError, match="module 'vae_serve' has no attribute 'encode'"):
        _ = vae_serve.encode  # type: ignore[attr-defined]  # that there is none is what is tried


def test_importing_the_package_imports_nothing_but_its_errors():
    code = "import sys; before = {*sys.modules}; import vae_serve; print(*sorted({*sys.modules} - before))"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True,
                          cwd=HELD.parent.parent.parent)  # fmt: skip
    heavy = {"numpy", "typer", "pyarrow", "onnxruntime", "msgspec", "rich", "PIL", "dataclasses", "pathlib"}
    assert heavy & set(done.stdout.split()) == set()
    assert [name for name in done.stdout.split() if name.startswith("vae_serve")] == ["vae_serve", "vae_serve.errors"]


def test_training_and_exporting_do_not_take_the_functions_names():
    code = (
        "import vae_serve, vae_serve.training, vae_serve.exporting, vae_serve.cli.train, vae_serve.cli.export\n"
        "assert callable(vae_serve.train) and callable(vae_serve.export) and callable(vae_serve.embed)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=HELD.parent.parent.parent)
