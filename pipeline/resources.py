"""Where the files that travel with the package lie: in the checkout, or inside the installed wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _resource_dir(name: str) -> Path:
    checkout = _PACKAGE.parent
    return checkout / name if (checkout / "pyproject.toml").is_file() else _PACKAGE / name


def conf_dir() -> Path:
    """Return the folder of Hydra's YAML files."""
    return _resource_dir("conf")


def shipped_weights(name: str) -> Path:
    """Return the path of the weights shipped for the model `name`, whether or not there are any."""
    return _resource_dir("data") / f"{name}.safetensors"
