"""Resolve settings: the dotted path of the layer, and both the name and the index of the class."""

from __future__ import annotations

import difflib
from dataclasses import replace

from pipeline.errors import InputError, NetworkError, SettingsError, listed
from pipeline.networks.declared import class_names
from pipeline.networks.known import layout_of
from pipeline.networks.layout import canonical_name
from pipeline.networks.targets import check_target
from pipeline.networks.weight_files import RANDOM
from pipeline.rankers import RANKERS
from pipeline.rankers.ranker import no_requirements
from pipeline.settings import ModelSettings, RegressionTarget, Settings
from pipeline.sources import source_for


def resolve(settings: Settings) -> Settings:
    """Return the settings with the dotted path of the layer, and with both `class_name` and `target_class`.

    The names of the classes are those in the settings or of the weights. If neither defines them, they are the classes
    of the data, provided that there are as many as the network has outputs (the convention of torchvision's
    ImageFolder). `class_name` remains None for a folder without classes. With ``target=regression``, there is no class
    to resolve, and `class_name` only selects images.

    Raises
    ------
    SettingsError
        If the class cannot be determined, or if name and index contradict each other.
    """
    layer = canonical_name(settings.layer)
    if isinstance(settings.target, RegressionTarget):
        return replace(settings, layer=layer)
    data_names = source_for(settings.data, settings.paths.downloads).class_names()
    names = class_names(settings.model)
    class_name, target_class = settings.class_name, settings.target_class
    if target_class is None:
        if class_name is None:
            raise SettingsError(
                "class_name or target_class must be given; got neither. Add class_name=... to the command."
            )
        target_class = _index_of(class_name, names, data_names, settings.model)
    elif names is not None and target_class >= len(names):
        raise SettingsError(
            f"target_class must be in [0, {len(names) - 1}]; got {target_class} (model '{settings.model.name}'). "
            "Give the index of one of the network's outputs."
        )
    elif class_name is None:
        class_name = _name_of(target_class, names, data_names, settings.model)
    elif names is not None and class_name in names and names[target_class] != class_name:
        raise SettingsError(
            f"class_name and target_class must refer to the same class; got '{class_name}' and {target_class} "
            f"(class {target_class} is '{names[target_class]}'). Give only one of them."
        )
    return replace(settings, layer=layer, class_name=class_name, target_class=target_class)


def _index_of(
    class_name: str, names: tuple[str, ...] | None, data_names: tuple[str, ...] | None, model: ModelSettings
) -> int:
    """Return the index of the network's output for the class of this name."""
    matches = [index for index, name in enumerate(names or ()) if name == class_name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise SettingsError(
            f"class_name must identify one class; got '{class_name}', the name of the classes "
            f"{listed([str(index) for index in matches])}. Give target_class as well."
        )
    if data_names and class_name in data_names:
        # With random weights, no output belongs to a class, so the order of the data's classes is as good as any.
        is_untrained = model.weights == RANDOM and model.checkpoint is None and model.factory is None
        if is_untrained or (names is None and layout_of(model).n_outputs == len(data_names)):
            return data_names.index(class_name)
    if names is None:
        raise SettingsError(
            f"target_class must be given; got null (it is not known which output of the network is '{class_name}'). "
            "Add target_class=... or model.class_names=[...]."
        )
    near = difflib.get_close_matches(class_name, names, n=3, cutoff=0.4) or names
    raise SettingsError(
        f"class_name must be one of the network's {len(names)} classes; got '{class_name}'. "
        f"{'They are' if near is names else 'Nearest'}: {listed(near, 10)}. If the class has another name in the data, "
        "give target_class as well."
    )


def _name_of(
    target_class: int, names: tuple[str, ...] | None, data_names: tuple[str, ...] | None, model: ModelSettings
) -> str | None:
    """Return the name of the class of this index, or None if neither the network nor the data has names."""
    if names is not None:
        return names[target_class]
    if data_names is None:
        return None
    if target_class < len(data_names) == layout_of(model).n_outputs:
        return data_names[target_class]
    raise SettingsError(
        f"class_name must be given; got null (it is not known which of {listed(data_names)} is class {target_class}). "
        "Add class_name=... or model.class_names=[...]."
    )


def check_ranker(settings: Settings) -> None:
    """Raise `NetworkError` if the ranker cannot be applied to the network; `settings` must be resolved."""
    check = RANKERS[settings.score.kind].check
    if check is not no_requirements:
        from pipeline.networks.load import probe

        layer = layout_of(settings.model).find(settings.layer)
        probe(settings.model, lambda network, example: check(network, layer, example))


def check_network(settings: Settings) -> None:
    """Check, before anything is computed, the settings that depend on the network; `settings` must be resolved.

    Raises
    ------
    NetworkError
        If the layer does not exist or cannot be ranked, if the ranker cannot be applied to the network, if the network
        does not have the class score, or if the weights do not exist or do not fit.
    InputError
        If `target_class` or `n_components` is out of range.
    """
    from pipeline.networks.load import check_weights

    check_weights(settings.model)
    layout_of(settings.model).find(settings.layer)
    check_layer(settings)
    check_score(settings)


def check_layer(settings: Settings) -> None:
    """Check what depends on the layer: the ranker and the number of components; see `check_network`."""
    check_ranker(settings)
    _, height, width = layout_of(settings.model).find(settings.layer).maps
    if settings.n_components != "auto":
        from pipeline.numerics.pca import check_n_components

        check_n_components(settings.n_components, settings.n_images, height, width)


def check_score(settings: Settings) -> None:
    """Check what depends on the network, but not on the layer: the class score and the batch size."""
    found = layout_of(settings.model)
    _check_batch_size(settings.model)
    check_target(settings.target, found.n_outputs)
    if settings.target_class is not None and settings.target_class >= found.n_outputs:
        raise InputError(
            f"target_class must be in [0, {found.n_outputs - 1}]; got {settings.target_class} "
            f"(model '{settings.model.name}'). Give the index of one of the network's outputs."
        )


def _check_batch_size(model: ModelSettings) -> None:
    """Raise `NetworkError` if a batch may have a single image, and the network cannot process it.

    With batches of at least 3 images, no batch has one image; see `pipeline.networks.inputs.batch_slices`.
    """
    from pipeline.networks.forward import forward
    from pipeline.networks.inputs import MIN_BATCH_SIZE
    from pipeline.networks.load import probe

    if model.batch_size >= MIN_BATCH_SIZE:
        return
    try:
        probe(model, lambda network, images: forward(network, images[:1]))
    except NetworkError as error:
        raise NetworkError(
            f"model.batch_size must be at least {MIN_BATCH_SIZE} for a network that cannot process a single image; got "
            f"{model.batch_size} ({str(error).rstrip('.')}). Increase it."
        ) from error
