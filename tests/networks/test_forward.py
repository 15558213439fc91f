"""Networks as people write them: other number formats, other outputs, and code that raises exceptions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.artifacts import Workspace
from pipeline.errors import NetworkError
from pipeline.networks.ablation import Ablation
from pipeline.networks.attribution import class_activation
from pipeline.networks.conductance import conductance
from pipeline.networks.contributions import check_gradients, check_rules, deeplift, integrated_gradients
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.forward import NetworkCodeError, evaluated, forward
from pipeline.networks.layout_pass import layout
from pipeline.networks.maps import as_before, as_float
from pipeline.networks.maximization import maximize
from pipeline.stages.activate import activations_of
from tests.helpers.networks import only

IMAGES = torch.rand((6, 3, 16, 16), generator=torch.Generator().manual_seed(1))
EACH, ZERO = torch.eye(6, dtype=torch.bool), torch.zeros(1, 6, 1, 1)  # each of six channels alone, set to zero


class InMemory:
    """The images as `pipeline.networks.inputs.Inputs`."""

    def __len__(self) -> int:
        return len(IMAGES)

    def read(self, images: slice) -> torch.Tensor:
        return IMAGES[images]


class Plain(nn.Module):
    """Two convolutions and a linear layer; `wrap` makes what the network returns out of its scores."""

    def __init__(self, wrap: Callable[[torch.Tensor], Any] = lambda scores: scores, n_outputs: int = 4) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 6, 3, stride=2)
        self.fc = nn.Linear(6, n_outputs)
        self.wrap = wrap

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.conv1(images).relu()).relu()

    def forward(self, images: torch.Tensor) -> Any:
        return self.wrap(self.fc(self.features(images).mean(dim=(2, 3))))


class WritesIntoItsInput(Plain):
    def forward(self, images: torch.Tensor) -> Any:
        return super().forward(images.sub_(0.5).mul_(3))


class Squeezes(Plain):
    def forward(self, images: torch.Tensor) -> Any:
        return self.wrap(self.fc(nn.functional.adaptive_avg_pool2d(self.features(images), 1).squeeze()))


class Raises(Plain):
    def forward(self, images: torch.Tensor) -> Any:
        if images.shape[-1] < 32:
            raise ValueError("images of 32 pixels\nor more are needed.")
        return super().forward(images)


class NeedsMetadata(Plain):
    def forward(self, images: torch.Tensor, metadata: torch.Tensor) -> Any:  # type: ignore[override]
        return super().forward(images) + metadata


class OfTokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.fc = nn.Embedding(9, 4), nn.Linear(4, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.fc(self.embedding(tokens).mean(dim=1))


class Spectrum(Plain):
    """A network with a layer of complex numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.transform = Transform()

    def forward(self, images: torch.Tensor) -> Any:
        return self.fc(self.transform(self.features(images)).abs().mean(dim=(2, 3)))


class Transform(nn.Module):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return torch.fft.fft2(maps)


@dataclass
class Result:
    """What a network of Hugging Face's transformers returns, without the package."""

    logits: torch.Tensor
    hidden: tuple[torch.Tensor, ...] = ()


def built(network_class: Callable[..., nn.Module], *arguments: Any) -> Any:
    torch.manual_seed(0)
    return network_class(*arguments).eval()


def quantised() -> Any:
    """Return a network in which torch.ao has quantised everything, from 8-bit maps to 8-bit weights."""
    quantization: Any = torch.ao.quantization  # not typed

    class Statically(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.leave = quantization.QuantStub(), quantization.DeQuantStub()
            self.relu1, self.relu2, self.pool = nn.ReLU(), nn.ReLU(), nn.AdaptiveAvgPool2d(1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            maps = self.relu2(self.conv2(self.relu1(self.conv1(self.enter(images)))))
            return self.leave(self.fc(self.pool(maps).flatten(1)))

    torch.manual_seed(0)
    network: Any = Statically().eval()
    engine = "fbgemm" if "fbgemm" in torch.backends.quantized.supported_engines else "qnnpack"
    torch.backends.quantized.engine = engine
    network.qconfig = quantization.get_default_qconfig(engine)
    quantization.prepare(network, inplace=True)
    network(IMAGES)
    return quantization.convert(network).eval()  # the new modules are in training mode


def examined(network: nn.Module, layer: str = "conv2", output: int = 1) -> ExaminedNetwork:
    return ExaminedNetwork.of_module(network, layer, lambda outputs: outputs[:, output].double(), IMAGES)


def maps_and_scores(network: nn.Module, layer: str = "conv2") -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    found = activations_of(examined(network, layer), InMemory(), 3, Workspace(), lambda done, total: None)
    return found.maps, found.class_score


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_network_in_another_format_computes_in_it(dtype: torch.dtype) -> None:
    network = built(Plain).to(dtype)
    maps, scores = maps_and_scores(network)
    with torch.inference_mode():
        first = network.conv1(IMAGES.to(dtype)).relu()
        expected = network.conv2(first)
        expected_scores = network.fc(expected.relu().mean(dim=(2, 3)))[:, 1]
    np.testing.assert_array_equal(maps, expected.transpose(0, 1).float().numpy())
    np.testing.assert_array_equal(scores, expected_scores.double().numpy())
    assert (maps.dtype, scores.dtype) == (np.float32, np.float64)
    single = maps_and_scores(built(Plain))[0]
    assert 0 < np.abs(maps - single).max() < (1e-6 if dtype == torch.float64 else 0.02)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda scores: {"logits": scores, "features": scores * 2},
        lambda scores: {"out": scores},
        lambda scores: (scores,),
        lambda scores: [None, scores],
        lambda scores: Result(scores, (scores, scores)),
    ],
    ids=["logits", "one entry", "tuple", "list with None", "object"],
)
def test_scores_are_found_in_dictionaries_tuples_and_objects(wrap: Callable[[torch.Tensor], Any]) -> None:
    expected, found = built(Plain), built(Plain, wrap)
    with torch.inference_mode():
        torch.testing.assert_close(forward(found, IMAGES), expected(IMAGES), rtol=0, atol=0)
    assert layout(found, IMAGES).n_outputs == 4
    # Both ways of computing ablations read the scores in the same way.
    ablation = Ablation(examined(found), IMAGES)
    plain = Ablation(examined(expected), IMAGES)
    torch.testing.assert_close(ablation.at(IMAGES).scores(EACH, ZERO), plain.at(IMAGES).scores(EACH, ZERO))


@pytest.mark.parametrize("method", [deeplift, lambda examined: only(conductance([examined], 400))])
def test_contributions_are_complete_for_other_formats_and_outputs(method: Callable[..., Any]) -> None:
    expected = method(examined(built(Plain)))(IMAGES)
    assert float(expected.sums.error.max()) < 1e-2 * float(expected.sums.change.abs().max())
    in_dictionary = method(examined(built(Plain, lambda scores: {"logits": scores})))(IMAGES)
    torch.testing.assert_close(in_dictionary.channels, expected.channels)
    in_double = method(examined(built(Plain).double()))(IMAGES)
    torch.testing.assert_close(in_double.channels, expected.channels, rtol=1e-3, atol=1e-6)
    in_half = method(examined(built(Plain).bfloat16()))(IMAGES)
    correlation = np.corrcoef(in_half.channels.flatten(), expected.channels.flatten())[0, 1]
    assert correlation > 0.99


def test_one_number_per_image_is_one_output() -> None:
    network = built(Plain, lambda scores: scores[:, 0])
    assert layout(network, IMAGES).n_outputs == 1
    found = class_activation(network, IMAGES, 0)
    with torch.inference_mode():
        np.testing.assert_array_equal(found.outputs[:, 0], network(IMAGES).numpy())
    assert (found.probabilities, found.predicted_maps) == (None, None)
    assert found.method == "Grad-CAM"
    assert found.target_maps is not None
    assert found.target_maps.shape == (6, 7, 7)


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (
            lambda scores: (scores, scores),
            "the network must return one row of scores per image, (n, n_outputs) or (n,); got tuple (6 images). "
            "Wrap it in a module that returns the scores, or give pcace.rank a function of the outputs as target.",
        ),
        (
            lambda scores: scores.T,
            "the network must return one row of scores per image, (n, n_outputs) or (n,); got shape (4, 6) "
            "(6 images). Wrap it in a module that returns the scores, or give pcace.rank a function of the outputs as "
            "target.",
        ),
        (
            lambda scores: scores.argmax(dim=1),
            "the network must return real scores; got numbers of type int64. "
            "Wrap it in a module that returns the scores from before the conversion.",
        ),
        (
            lambda scores: scores * 1j,
            "the network must return real scores; got numbers of type complex64. "
            "Wrap it in a module that returns the scores from before the conversion.",
        ),
        (
            lambda scores: scores > 0,
            "the network must return real scores; got numbers of type bool. "
            "Wrap it in a module that returns the scores from before the conversion.",
        ),
    ],
    ids=["two tensors", "no row per image", "classes", "complex", "decisions"],
)
def test_other_outputs_are_refused(wrap: Callable[[torch.Tensor], Any], message: str) -> None:
    with pytest.raises(NetworkError) as caught:
        layout(built(Plain, wrap), IMAGES)
    assert str(caught.value) == message


def test_a_second_required_input_is_refused() -> None:
    with pytest.raises(NetworkError) as caught:
        layout(built(NeedsMetadata), IMAGES)
    assert str(caught.value) == (
        "the network must take the images as its only required input; got NeedsMetadata.forward(images, metadata). "
        "Wrap it in a module that supplies the other inputs."
    )


def test_an_exception_of_the_network_is_reported_with_its_place() -> None:
    lines, start = inspect.getsourcelines(Raises)
    line = start + next(number for number, text in enumerate(lines) if "raise" in text)
    with pytest.raises(NetworkCodeError) as caught:
        layout(built(Raises), IMAGES)
    assert str(caught.value) == (
        "the network must process the images; got ValueError: images of 32 pixels or more are needed "
        f"({__file__}:{line}, input of shape (6, 3, 16, 16)). "
        "Correct the network, or check model.input_size and model.transform."
    )
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_exception_inside_pytorch_is_reported_with_the_line_that_led_to_it() -> None:
    lines, start = inspect.getsourcelines(OfTokens)
    line = start + next(number for number, text in enumerate(lines) if "self.embedding(tokens)" in text)
    with pytest.raises(NetworkCodeError) as caught:
        layout(built(OfTokens), IMAGES)
    assert str(caught.value).startswith("the network must process the images; got RuntimeError: Expected tensor for")
    assert f" ({__file__}:{line}, input of shape (6, 3, 16, 16)). " in str(caught.value)
    modules_only = nn.Sequential(nn.Flatten(), nn.Linear(9, 2)).eval()
    with pytest.raises(NetworkCodeError) as caught:
        layout(modules_only, IMAGES)
    assert str(caught.value) == (
        "the network must process the images; got RuntimeError: mat1 and mat2 shapes cannot be multiplied (6x768 and "
        "9x2) (input of shape (6, 3, 16, 16)). Correct the network, or check model.input_size and model.transform."
    )


def test_errors_of_this_package_are_not_the_networks() -> None:
    def fail(*_: object) -> None:
        raise NetworkError("a hook's own message.")

    network = built(Plain)
    network.conv1.register_forward_hook(fail)
    with pytest.raises(NetworkError, match=r"^a hook's own message\.$"):
        forward(network, IMAGES)


def test_a_network_that_writes_into_its_input_does_not_change_the_images() -> None:
    before, network = IMAGES.clone(), built(WritesIntoItsInput)
    plain = built(Plain)
    expected = plain((IMAGES - 0.5) * 3)
    torch.testing.assert_close(forward(network, IMAGES), expected)
    found = class_activation(network, IMAGES, 1)
    np.testing.assert_allclose(found.outputs, expected.detach().numpy(), rtol=1e-5)
    expected_maps = class_activation(plain, (IMAGES - 0.5) * 3, 1).target_maps
    assert found.method == "CAM"
    assert found.target_maps is not None
    assert expected_maps is not None
    np.testing.assert_allclose(found.target_maps, expected_maps, rtol=1e-4, atol=1e-6)
    # If torch.fx cuts the network, the first part changes its input as well.
    ablation = Ablation(examined(network), IMAGES)
    assert ablation.cut is not None
    unchanged = Ablation(examined(plain), (IMAGES - 0.5) * 3).at((IMAGES - 0.5) * 3).scores(EACH, ZERO)
    for _ in range(2):
        torch.testing.assert_close(ablation.at(IMAGES).scores(EACH, ZERO), unchanged, rtol=1e-4, atol=1e-5)
    assert torch.equal(IMAGES, before)


def test_a_single_image_is_drawn_for_a_network_that_needs_two() -> None:
    network = built(Squeezes)
    with pytest.raises(NetworkError, match=r"got shape \(4,\) \(1 images\)"):
        forward(network, IMAGES[:1])
    one, several = class_activation(network, IMAGES[:1], 2), class_activation(network, IMAGES, 2)
    assert one.target_maps is not None
    assert several.target_maps is not None
    assert one.target_maps.shape == (1, 7, 7)
    np.testing.assert_allclose(one.target_maps[0], several.target_maps[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(one.outputs[0], several.outputs[0], rtol=1e-5)


@pytest.mark.parametrize("method", [lambda found, n_steps: only(conductance([found], n_steps)), integrated_gradients])
def test_a_network_that_needs_two_images_is_ablated_and_attributed(method: Callable[..., Any]) -> None:
    network, plain = built(Squeezes), built(Plain)
    with torch.inference_mode():
        torch.testing.assert_close(network(IMAGES), plain(IMAGES))
    found = Ablation(examined(network), IMAGES).at(IMAGES).scores(EACH, ZERO)
    torch.testing.assert_close(found, Ablation(examined(plain), IMAGES).at(IMAGES).scores(EACH, ZERO))
    contributed, expected = (method(examined(each), 20)(IMAGES) for each in (network, plain))
    torch.testing.assert_close(contributed.channels, expected.channels, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("returns", ["softmax", "log_softmax", "logits"])
def test_outputs_that_are_probabilities_are_shown_unchanged(returns: str) -> None:
    wrap: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "softmax": lambda scores: scores.softmax(dim=1), "log_softmax": lambda scores: scores.log_softmax(dim=1),
        "logits": lambda scores: scores,
    }  # fmt: skip
    expected = built(Plain)(IMAGES).softmax(dim=1).detach().numpy()
    found = class_activation(built(Plain, wrap[returns]), IMAGES, 1)
    assert found.probabilities is not None
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-5)


def test_a_layer_of_complex_numbers_cannot_be_ranked() -> None:
    layer = next(each for each in layout(built(Spectrum), IMAGES).layers if each.name == "transform")
    assert layer.rejection == "complex numbers of shape (n, 6, 7, 7)"


def test_evaluation_mode_reaches_every_module() -> None:
    class Frozen(Plain):
        """`train` neither returns the network nor heeds its argument for one module."""

        def train(self, mode: bool = True) -> None:  # type: ignore[override]
            super().train(mode)
            self.conv2.train()

    network = Frozen()
    assert evaluated(network) is network
    assert not any(module.training for module in network.modules())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_quantised_network_is_ranked_by_everything_but_gradients() -> None:
    network = quantised()
    maps, scores = maps_and_scores(network)
    with torch.inference_mode():
        expected = network.conv2(network.relu1(network.conv1(network.enter(IMAGES))))
        np.testing.assert_array_equal(maps, expected.dequantize().transpose(0, 1).numpy())
        np.testing.assert_array_equal(scores, network(IMAGES)[:, 1].double().numpy())
    # Ablation of a channel, against a pass in which a hook sets the quantised channel to zero.
    found = Ablation(examined(network), IMAGES).at(IMAGES).scores(EACH, ZERO)
    changed = set()
    for channel in range(6):

        def ablate(_module: nn.Module, _inputs: object, output: torch.Tensor, channel: int = channel) -> torch.Tensor:
            plain = output.dequantize()
            plain[:, channel] = 0
            return torch.quantize_per_tensor(plain, output.q_scale(), output.q_zero_point(), output.dtype)

        handle = network.conv2.register_forward_hook(ablate)
        with torch.inference_mode():
            right = network(IMAGES)[:, 1].double()
        handle.remove()
        torch.testing.assert_close(found[channel], right, rtol=0, atol=0)
        changed.add(bool((right.numpy() != scores).any()))
    assert True in changed  # some channels matter
    activation = class_activation(network, IMAGES, 1)
    assert activation.method is None
    assert "grad" in str(activation.failure)
    assert activation.probabilities is not None
    with pytest.raises(NetworkError) as caught:
        check_gradients(network, layout(network, IMAGES).find("conv2"), IMAGES)
    assert str(caught.value) == (
        "the network must have gradients for this ranker; got the quantised module 'conv1' (layer 'conv2'). "
        "Choose another ranker, for example score=ablation or score=ace."
    )
    with pytest.raises(NetworkError) as caught:
        check_rules(network, layout(network, IMAGES).find("conv2"), IMAGES)
    assert str(caught.value) == (
        "the network must have gradients for this ranker; got the quantised module 'conv1' (layer 'conv2'). "
        "Choose another ranker, for example score=ablation or score=ace."
    )
    with pytest.raises(NetworkError, match=r"^layer must depend on the input by gradients; got none"):
        maximize(
            network, "conv2", [0, 1], IMAGES, np.ones((2, 6)) * np.arange(6), lambda pixels: pixels,
            steps=2, seed=0, progress=lambda done, total: None,
        )  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_dynamically_quantised_head_is_examined() -> None:
    quantization: Any = torch.ao.quantization  # not typed
    network = quantization.quantize_dynamic(built(Plain), {nn.Linear}).eval()
    maps, scores = maps_and_scores(network, "fc")
    assert maps.shape == (4, 6, 1, 1)
    np.testing.assert_array_equal(scores, maps[1, :, 0, 0].astype(float))
    found = Ablation(examined(network), IMAGES).at(IMAGES).scores(EACH, ZERO)
    assert found.shape == (6, 6)


def test_numbers_return_to_their_format() -> None:
    values = torch.tensor([0.25, -1.5, 3.0])
    for dtype in (torch.bfloat16, torch.float16, torch.float64, torch.int8):
        original = torch.zeros(3, dtype=dtype)
        assert as_before(values, original).dtype == dtype
        assert as_float(original).dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    coarse = torch.quantize_per_tensor(values, 0.5, 10, torch.quint8)
    assert as_float(coarse).tolist() == [0.0, -1.5, 3.0]
    assert as_before(values, coarse).int_repr().tolist() == coarse.int_repr().tolist()
