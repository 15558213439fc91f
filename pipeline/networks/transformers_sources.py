"""Where the models of transformers come from: a folder, the Hugging Face hub, or a type of model; and what they are."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import NetworkError, PipelineError, listed
from pipeline.networks.forward import described

HUB = "hf-hub:"  # the prefix that timm uses as well
CONFIG = "config.json"


def config_of(name: str, arguments: Mapping[str, Any]) -> Any:
    """Return the configuration of a model, with the values in `arguments`.

    Raises
    ------
    NetworkError
        If there is no such model, if the configuration cannot be read, or if it has no such values.
    """
    transformers = package()
    place, is_hub = place_of(name), name.startswith(HUB)
    if is_type(name):

        def read(**values: Any) -> Any:
            return transformers.AutoConfig.for_model(name, **values)

    elif is_hub or Path(place).is_dir():
        if not is_hub and not (Path(place) / CONFIG).is_file():
            raise NetworkError(
                f"model.name must be a folder that save_pretrained has written; got '{name}', which does not contain "
                f"{CONFIG}. Give the folder with the configuration and the weights."
            )

        def read(**values: Any) -> Any:
            return read_from(transformers.AutoConfig.from_pretrained, name, **values)
    else:
        near = difflib.get_close_matches(name, classifiers(), n=3, cutoff=0.4)
        raise NetworkError(
            f"model.name must be a folder that save_pretrained has written, {HUB}OWNER/NAME, or one of transformers' "
            f"types of image classifiers; got '{name}'. Nearest types: {listed(near) or 'none'}. "
            "Check the path of the folder."
        )
    try:
        with quiet():
            default = read()
            unknown = [each for each in arguments if not _has(default, each)]
            if unknown:
                names = sorted(each for each in default.to_dict() if not each.startswith("_"))
                near = [match for each in unknown for match in difflib.get_close_matches(each, names)]
                names = list(dict.fromkeys([*near, *names]))  # the nearest ones first
                raise NetworkError(
                    f"model.arguments must be values of the model's configuration; got {listed(unknown)} "
                    f"(transformers' {name}; its values are {listed(names)}). Correct or remove them."
                )
            return read(**arguments) if arguments else default
    except PipelineError:
        raise
    except Exception as error:  # the configurations have checks of their own
        raise config_error(name, arguments, error) from error


def read_from(read: Callable[..., Any], name: str, **values: Any) -> Any:
    """Return what a method ``from_pretrained`` reads from a folder, from the cache of the hub, or from the hub."""
    if not name.startswith(HUB):
        return read(place_of(name), trust_remote_code=False, **values)
    given = {"trust_remote_code": False, "revision": commit_of(name), **values}
    try:
        return read(place_of(name), local_files_only=True, **given)
    except OSError:
        return read(place_of(name), **given)


def commit_of(name: str) -> str:
    """Return the commit of a model on the hub: the one in the cache, so that nothing changes between two runs."""
    from huggingface_hub import hf_hub_download

    place, revision = place_of(name), name.partition("@")[2] or None
    try:
        found = hf_hub_download(place, CONFIG, revision=revision, local_files_only=True)
    except OSError:
        found = hf_hub_download(place, CONFIG, revision=revision)
    return Path(found).parent.name  # the folder of the snapshot


def config_error(name: str, arguments: Mapping[str, Any], error: Exception) -> NetworkError:
    """Return the error for a model whose configuration, or network with these values in it, cannot be made."""
    reason = described(error)
    if name.startswith(HUB) and isinstance(error, OSError):
        return NetworkError(
            f"model.name must be in the cache of the Hugging Face hub or downloadable; got '{name}' ({reason}). "
            "Set model.name to a folder that save_pretrained has written, or to a type with model.weights=random."
        )
    if arguments:
        given = listed([f"{each}={value}" for each, value in arguments.items()])
        return NetworkError(
            f"model.arguments must suit the network; got {given} (transformers' {name}, {reason}). "
            "Correct or remove them."
        )
    return NetworkError(
        f"model.name must have a configuration that transformers can read; got '{name}' ({reason}). "
        "Save the model again with save_pretrained."
    )


def classifiers() -> dict[str, tuple[str, ...]]:
    """Return the names of the classes of image classifiers by the type of model."""
    package()
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

    found: Mapping[str, Any] = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
    return {name: (each,) if isinstance(each, str) else tuple(each) for name, each in found.items()}


def is_type(name: str) -> bool:
    """Return whether a name is a type of model. A folder of the same name is given as ``./vit``."""
    return name in classifiers()


def place_of(name: str) -> str:
    """Return the path of a folder, or the name of a model on the hub, without its revision."""
    if name.startswith(HUB):
        return name.removeprefix(HUB).partition("@")[0]
    return str(Path(name).expanduser())


def _has(config: Any, name: str) -> bool:
    if name == "attn_implementation":
        return True
    return not name.startswith("_") and hasattr(config, name) and not callable(getattr(config, name))


@contextmanager
def quiet() -> Iterator[None]:
    """Switch off the messages and progress bars of transformers and of the client of the hub inside the context."""
    import huggingface_hub.utils.logging

    hub: Any = huggingface_hub.utils.logging
    logging: Any = package().utils.logging
    level, hub_level, has_bar = logging.get_verbosity(), hub.get_verbosity(), logging.is_progress_bar_enabled()
    try:
        logging.set_verbosity_error()
        hub.set_verbosity_error()
        logging.disable_progress_bar()
        yield
    finally:
        logging.set_verbosity(level)
        hub.set_verbosity(hub_level)
        if has_bar:
            logging.enable_progress_bar()


def package() -> Any:
    """Return the package, which is imported only if it is needed."""
    try:
        import transformers
    except ImportError as error:
        raise NetworkError(
            "model.library must be installed; got transformers, which is not installed. "
            'Run pip install "pcace[transformers]".'
        ) from error
    return transformers
