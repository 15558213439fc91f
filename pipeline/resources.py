"""Paths of the data files of the package: in the checkout, or inside the package if it was installed from a wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _resource_dir(name: str) -> Path:
    checkout = _PACKAGE.parent
    return checkout / name if (checkout / "pyproject.toml").is_file() else _PACKAGE / name


def conf_dir() -> Path:
    """Return the folder of the YAML files that Hydra composes."""
    return _resource_dir("conf")


def shipped_weights(name: str) -> Path:
    """Return the path of the weights that are shipped for the model `name`. The file need not exist."""
    return _resource_dir("data") / f"{name}.safetensors"
