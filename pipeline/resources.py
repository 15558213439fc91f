"""Paths of the data files of the package: in the checkout, or inside the package if it was installed from a wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _resource_dir(name: str) -> Path:
    checkout = _PACKAGE.parent
    return checkout / name if (checkout / "pyproject.toml").is_file() else _PACKAGE / name


def conf_dir() -> Path:
    """Return the folder of the YAML files that Hydra composes."""
    return _resource_dir("conf")


def own_conf_dir() -> Path | None:
    """Return the folder ``conf`` of the working folder, whose YAML files are further options, or None.

    In the checkout, it is the folder of `conf_dir` itself, and adds nothing.
    """
    folder = Path.cwd() / "conf"
    return folder if folder.is_dir() and folder.resolve() != conf_dir().resolve() else None


def shipped_weights(name: str) -> Path:
    """Return the path of the weights that are shipped for the model `name`. The file need not exist."""
    return _resource_dir("data") / f"{name}.safetensors"


def options(group: str) -> list[str]:
    """Return the options of a config group: the names of the files in ``conf/model``, also in the user's own folder."""
    folders = [folder for folder in (conf_dir(), own_conf_dir()) if folder is not None]
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})
