"""Temporary changes of a network are undone at the end of the context, also if it ends with an exception."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from torch import nn
from torch.utils.hooks import RemovableHandle

from pipeline.networks.hooks import attached, without_inplace


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 2), nn.ReLU(inplace=True), nn.ReLU())


def n_hooks(built: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in built.modules())


def ignore(*_arguments: object) -> None:
    """Accept the arguments of any hook."""


def test_hooks_exist_inside_the_context_only() -> None:
    built = network()
    with attached(module.register_forward_hook(ignore) for module in built):
        assert n_hooks(built) == 3
    assert n_hooks(built) == 0


def test_hooks_are_removed_if_the_context_ends_with_an_exception() -> None:
    built = network()
    handles = [built[0].register_forward_hook(ignore), built[1].register_forward_pre_hook(ignore)]
    with pytest.raises(ZeroDivisionError), attached(handles):
        raise ZeroDivisionError
    assert n_hooks(built) == 0


def test_hooks_are_removed_if_a_later_one_cannot_be_registered() -> None:
    built = network()

    def handles() -> Iterator[RemovableHandle]:
        yield built[0].register_forward_hook(ignore)
        yield built[1].register_forward_hook(ignore)
        assert n_hooks(built) == 2
        yield built.get_submodule("missing").register_forward_hook(ignore)

    with pytest.raises(AttributeError, match="missing"), attached(handles()):
        pytest.fail("the context must not be entered")
    assert n_hooks(built) == 0


def test_hooks_that_were_attached_before_stay() -> None:
    built = network()
    built[0].register_forward_hook(ignore)
    with attached([built[0].register_forward_hook(ignore)]):
        assert n_hooks(built) == 2
    assert n_hooks(built) == 1


def test_modules_work_in_place_again_after_the_context() -> None:
    built = network()
    with pytest.raises(ZeroDivisionError), without_inplace(built):
        assert [built[1].inplace, built[2].inplace] == [False, False]
        raise ZeroDivisionError
    assert [built[1].inplace, built[2].inplace] == [True, False]
