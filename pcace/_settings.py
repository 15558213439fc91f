"""From keyword arguments to the settings of a ranking. The names and the default values are those of ``conf/``."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.config import checked_settings, compose_config, values_of
from pipeline.errors import SettingsError, listed
from pipeline.resources import options
from pipeline.settings import Settings

GROUPS = ("activate", "reduce", "score", "rank", "ablate", "visualize", "target")
OF_MODEL = ("batch_size", "channels", "class_names")
MAIN = ("n_components", "seed")
ARGUMENTS = ("layer", "target", "ranker", "n_images", "transform", "progress", "store", "log")  # others of `pcace.rank`


@dataclass(frozen=True)
class Subject:
    """What is known of the network and its images, besides the settings.

    Attributes
    ----------
    model : str
        Name of the network.
    layer : str
        Dotted path of the layer.
    target_class : int or None
        Index of the class; None if the class score is not the score of a class.
    output : int or None
        Index of the output of a regression network; None for a class and for a function of the outputs.
    n_images : int
        Number of images.
    input_shape : tuple of int
        Shape of the network's input for one image.
    class_name : str or None
        Name of the class, if it is known.
    class_names : tuple of str or None
        Names of all outputs of the network, if they are known.
    """

    model: str
    layer: str
    target_class: int | None
    output: int | None
    n_images: int
    input_shape: tuple[int, ...]
    class_name: str | None = None
    class_names: tuple[str, ...] | None = None


def checked_names(ranker: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of all settings, with the given ones in their places.

    Parameters
    ----------
    ranker : str or None
        Name of the ranker; None for the default.
    given : mapping
        Settings by name: ``n_components``, ``permutations`` (a setting of the ranker), ``rank.by`` (of another group),
        or ``rank={"by": ...}``.

    Raises
    ------
    SettingsError
        If there is no such ranker or no such setting; one line for each fault.
    """
    known = options("score")
    if ranker is not None and ranker not in known:
        near = difflib.get_close_matches(str(ranker), known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise SettingsError(f"ranker must be one of {listed(known, 20)}; got {ranker!r}.{hint}")
    overrides = ["model=torchvision", "model.name=in_memory", "data=digits", "tracking=none"]
    if any(name.startswith("target.output") for name, _ in _flat(given)):
        overrides.append("target=regression")
    values = values_of(compose_config(overrides + ([f"score={ranker}"] if ranker else [])))
    names: dict[str, tuple[str, ...]] = {name: (name,) for name in MAIN}
    names |= {name: ("model", name) for name in OF_MODEL}
    names |= {name: ("score", name) for name in values["score"] if name != "kind"}
    names |= {f"{group}.{name}": (group, name) for group in GROUPS for name in values[group] if name != "kind"}
    names |= {f"model.{name}": ("model", name) for name in OF_MODEL}
    faults = []
    for name, value in _flat(given):
        if name not in names:
            near = difflib.get_close_matches(name, [*names, *ARGUMENTS], n=1, cutoff=0.75)
            own = [each for each in values["score"] if each != "kind"]
            if name in ("score", "score.kind"):  # as on the command line
                hint = f"Give ranker={value!r}."
            elif name.partition(".")[0] == "engine":
                hint = "Use the command: pcace run engine=ray."
            elif near:
                hint = f"Did you mean {near[0]}?"
            else:
                hint = (
                    f"The settings of {values['score']['kind']} are {listed(own, 30)}; docs/python.md lists the others."
                )
            faults.append(f"{name} must be a setting of a ranking in memory; got {value!r}. {hint}")
            continue
        *parents, leaf = names[name]
        place = values
        for parent in parents:
            place = place[parent]
        place[leaf] = _plain(value)
    if faults:
        raise SettingsError("\n".join(faults))
    any_subject = Subject("network", "layer", None, values["target"].get("output"), 10**4, (1, 1, 1))
    completed(values, any_subject)  # reports values that no network and no images allow
    return values


def completed(values: Mapping[str, Any], subject: Subject) -> Settings:
    """Return the settings of a ranking.

    Parameters
    ----------
    values : mapping
        Result of `checked_names`.
    subject : Subject
        The network and the images.

    Raises
    ------
    SettingsError
        If a value is not possible; one line for each fault.
    """
    shape = subject.input_shape  # of the settings, which know only grey and colour images
    if len(shape) != 3 or shape[0] not in (1, 3):
        shape = (1, 1, int(np.prod(subject.input_shape)))
    is_class = subject.target_class is not None
    if is_class and values["target"]["kind"] != "class":
        raise SettingsError(
            f"target must be None with target.output; got class {subject.target_class}. Give one of the two."
        )
    model = {
        **values["model"],
        "name": subject.model,
        "class_names": list(subject.class_names) if subject.class_names else values["model"]["class_names"],
        "weights": "random",
        "input_size": list(shape),
        "transform": {"kind": "none", "size": shape[-1], "mean": [0.0] * shape[0], "std": [1.0] * shape[0]},
    }
    target = values["target"] if is_class else {"kind": "regression", "output": subject.output or 0}
    return checked_settings(
        {
            **values,
            "layer": subject.layer,
            "class_name": subject.class_name,
            "target_class": subject.target_class,
            "n_images": subject.n_images,
            "model": model,
            "target": target,
        }
    )


def as_given(settings: Settings) -> dict[str, Any]:
    """Return the settings of a ranking by the names under which they are given to `pcace.rank`.

    The settings of groups have dotted names, as in the argument ``settings``.
    """
    found: dict[str, Any] = {"ranker": settings.score.kind}
    found |= {name: getattr(settings, name) for name in MAIN}
    found |= {name: getattr(settings.model, name) for name in OF_MODEL}
    found |= {name: value for name, value in asdict(settings.score).items() if name != "kind"}
    for group in GROUPS:
        if group != "score":
            values = asdict(getattr(settings, group))
            found |= {f"{group}.{name}": value for name, value in values.items() if name != "kind"}
    return {name: value for name, value in found.items() if name != "class_names"}


def _flat(given: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings of nested mappings under dotted names."""
    for name, value in given.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _plain(value: Any) -> Any:
    """Return a value in types of JSON: NumPy's numbers and arrays are converted."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [_plain(each) for each in value] if isinstance(value, Sequence) and not isinstance(value, str) else value
