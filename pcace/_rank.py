"""`pcace.rank`: the stages of the pipeline on a network and images in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, overload

from torch import nn

from pcace._computation import Computation, Made
from pcace._forms import Transform, normalization
from pcace._images import N_EXAMPLES, collected
from pcace._network import (
    Model,
    adapted,
    borrowed,
    check_device,
    device_of,
    layer_name,
    layer_selection,
    name_of,
    random_states_kept,
    unwrapped,
)
from pcace._network_ranking import NetworkRanking
from pcace._pictures import pictures_of, scale_of
from pcace._progress import shown_progress
from pcace._ranking import Ranking
from pcace._settings import Subject, checked_names
from pcace._store import kept_in
from pcace._target import FoundTarget, Target, found_target
from pcace._views import LazyViews, LiveViews
from pcace._wording import worded_for_python
from pipeline.artifacts import ImageSet
from pipeline.environment import environment
from pipeline.errors import InputError, NetworkError
from pipeline.networks.heads import exposed_heads
from pipeline.networks.layout import NetworkLayout
from pipeline.networks.layout_pass import layout
from pipeline.settings import MIN_IMAGES

# Not a sequence, since a text is one as well.
Layers = list[str] | list[nn.Module] | list[str | nn.Module] | tuple[str | nn.Module, ...]


@overload
def rank(
    model: Model,
    images: object,
    layer: Literal["all", "*"] | Layers,
    target: Target = None,
    *,
    ranker: str | None = None,
    n_images: int | None = None,
    transform: Transform | None = None,
    progress: bool = True,
    store: str | Path | None = None,
    log: object = None,
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> NetworkRanking: ...


@overload
def rank(
    model: Model,
    images: object,
    layer: str | nn.Module,
    target: Target = None,
    *,
    ranker: str | None = None,
    n_images: int | None = None,
    transform: Transform | None = None,
    progress: bool = True,
    store: str | Path | None = None,
    log: object = None,
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> Ranking: ...


@worded_for_python()
@random_states_kept()
def rank(
    model: Model,
    images: object,
    layer: str | nn.Module | Layers,
    target: Target = None,
    *,
    ranker: str | None = None,
    n_images: int | None = None,
    transform: Transform | None = None,
    progress: bool = True,
    store: str | Path | None = None,
    log: object = None,
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> Ranking | NetworkRanking:
    """Rank the channels of a layer, or of several layers, by how strongly they are associated with a class score.

    By default, the score of a channel is its maximal correlation with the class score (PCACE): the maps of the channel
    are reduced to principal components, and ACE is applied to these and the class score. The evidence for the scores
    (permutation null, cross-fitted scores, confidence intervals, split-half reliability) is computed as well.

    The network is left as it was found: its mode, hooks, parameters and buffers, and the global random generators are
    the same before and after, also if the ranking is interrupted. Nothing is written to the disk and nothing is logged,
    unless `store` or `log` ask for it.

    Parameters
    ----------
    model : Module
        The network, on any device and of any floating-point type. Wrappers (``DataParallel``, ``torch.compile``) are
        removed. It returns one row of scores for each image, unless `target` is a function.
    images : tensor, array, list, Dataset, DataLoader, dict or iterable
        The images as the network's input: a tensor or array of shape (n_images, ...), a list of tensors or arrays, a
        ``Dataset`` of single images, or a ``DataLoader`` or another iterable of batches. Labels beside the images are
        ignored. With `transform`, single images may have any form, such as PIL images or paths. The images are read
        once; they are kept in memory, or in a temporary file if they are large.
    layer : str, Module or sequence of these
        The layer, by its dotted path (``"layer4.1.conv2"`` or ``"layer4[1].conv2"``) or as a module of the network.
        The heads of an attention layer are the layer ``heads`` in it (``"blocks.3.attn.heads"``). Several layers are a
        list, a pattern such as ``"layer*.conv2"``, or ``"*"`` for every layer that can be ranked; the images then run
        through the network once for all of them.
    target : int, str, callable or None, default=None
        The class score: an output of the network by its index or, where the names of the classes are known, by its
        name; or a function from the network's outputs to one number for each image. None for a network with one output.
    ranker : str, optional
        Method that scores the channels, a name in ``conf/score``: ``"ace"`` (PCACE), ``"pearson"``, ``"conductance"``
        and others.
    n_images : int, optional
        Number of images that are read; all by default.
    transform : callable, optional
        From one image to the network's input for it, for example the transform of the weights.
    progress : bool, default=True
        Whether the progress is shown, in a terminal or a notebook.
    store : str or Path, optional
        Folder of an artifact store. Principal components, scores and rankings that were computed before from the same
        images and activations are taken from it, and large maps are kept in it instead of in memory.
    log : mlflow.entities.Run, str or True, optional
        An MLflow run, its id, or True for the active run: table, report, settings and a few metrics are logged to it.
        Several layers are logged to runs of their own as well, see `NetworkRanking.log`.
    settings : mapping, optional
        Settings by their names in ``conf``, such as ``{"rank.by": "excess", "ablate": {"when": "never"}}``.
    **options
        More settings: ``n_components``, ``seed``, ``batch_size``, ``channels``, ``class_names``, and those of the
        ranker, such as ``permutations`` or ``bootstrap``.

    Returns
    -------
    Ranking or NetworkRanking
        The channels, best first, and the reliability of their order. For several layers, the channels of all of them in
        one order, and for each layer its own `Ranking`.

    Raises
    ------
    PipelineError
        If an argument, the network or the images do not allow the ranking.

    See Also
    --------
    layers : The layers that can be ranked.
    compare : The agreement of rankings.

    Examples
    --------
    >>> import torch
    >>> import pcace
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 3))
    >>> ranking = pcace.rank(model, torch.rand(60, 1, 8, 8), layer="0", target=2, bootstrap=0, permutations=20)
    >>> sorted(ranking.channels)
    [0, 1, 2, 3, 4, 5]
    """
    network = unwrapped(model)
    values = checked_names(ranker, {**(settings or {}), **options})
    with exposed_heads(network):
        selection = layer_selection(network, layer)
        name = layer_name(network, layer) if selection is None else selection
    found = found_target(target, network, images, values["model"]["class_names"])
    run_id = None if log is None else _run_id(log, is_network=selection is not None)
    with borrowed(network), exposed_heads(network), shown_progress(is_shown=progress) as show:
        inputs = collected(images, network, transform=transform, n_images=n_images, progress=show("images"))
        if n_images is not None and len(inputs) < n_images:
            raise InputError(f"n_images must be at most {len(inputs)}, the number of images; got {n_images}. Lower it.")
        image_set = inputs.image_set()
        _check_count(image_set)
        device = device_of(network) or inputs.device
        check_device(device)
        held = inputs.on(device)
        with adapted(network, inputs.keyword, found.score):
            layers = layout(network, held.read(slice(0, N_EXAMPLES)), values["model"]["channels"])
            outputs = _outputs(found, layers)
            names = _names(found, layers, is_given=values["model"]["class_names"] is not None)
            subject = Subject(name_of(network), name, *outputs, len(inputs), inputs.shape, found.class_name, names)
            with kept_in(store) as kept:
                computation = Computation(
                    values=values,
                    subject=subject,
                    network=network,
                    layers=layers,
                    held=held,
                    device=device,
                    images=image_set,
                    target=found,
                    is_adapted=inputs.keyword is not None or found.score is not None,
                    show=show,
                    kept=kept,
                )
                if selection is None:
                    made, tables = {name: computation.in_fitting_batches(lambda each: each.of_layer(name))}, None
                else:
                    made, tables = computation.in_fitting_batches(lambda each: each.of_layers(selection))
    scale = scale_of(inputs.on(None), normalization(transform))
    pictures, machine = pictures_of(inputs.on(None), scale), environment()

    def ranking_of(result: Made) -> Ranking:
        views = LiveViews.of(result.settings, result.examined, inputs, scale, found.score)
        return Ranking.of(
            result.settings, found.label, image_set, result.artifacts, pictures, LazyViews(views), machine
        )

    if tables is not None:
        ranked: Ranking | NetworkRanking = NetworkRanking(
            tables, {layer: ranking_of(result) for layer, result in made.items()}
        )
    else:
        ranked = ranking_of(made[name])
    if run_id is not None:
        ranked.log(run_id)
    return ranked


def _run_id(log: object, *, is_network: bool) -> str:
    """Return the id of the MLflow run, before anything is computed for it."""
    from pipeline.tracking.ranking import run_id_of

    run_id = run_id_of(log)
    if is_network:
        from pipeline.tracking.live_network import check_no_network

        check_no_network(run_id)
    return run_id


def _check_count(images: ImageSet) -> None:
    n_different = len(images) - images.n_copies
    if n_different < MIN_IMAGES:
        raise InputError(
            f"images must include at least {MIN_IMAGES} that differ; got {n_different} among {len(images)}. "
            "Add other images."
        )


def _outputs(target: FoundTarget, layers: NetworkLayout) -> tuple[int | None, int | None]:
    """Return the index of the class, and the index of the output of a regression network.

    Raises
    ------
    NetworkError
        If the network does not have such an output.
    """
    if target.score is not None:
        return None, None
    if target.index is None:
        if layers.n_outputs != 1:
            raise NetworkError(
                f"target must be given for a network with {layers.n_outputs} outputs; got None. "
                "Give the index of a class, or a function of the outputs."
            )
        return None, 0
    if target.index >= layers.n_outputs:
        raise NetworkError(
            f"target must be in [0, {layers.n_outputs - 1}], the outputs of the network; got {target.index}."
        )
    return target.index, None


def _names(target: FoundTarget, layers: NetworkLayout, *, is_given: bool) -> tuple[str, ...] | None:
    """Return the names of all outputs of the network; None if they are not known.

    Raises
    ------
    NetworkError
        If the names were given, and there is not one for each output.
    """
    if target.names is None or len(target.names) == layers.n_outputs:
        return target.names
    if is_given and target.index is not None:
        raise NetworkError(
            f"class_names must have one name for each of the {layers.n_outputs} outputs of the network; "
            f"got {len(target.names)}."
        )
    return None
