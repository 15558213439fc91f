"""What is refused before Ray starts, in one line."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.config import compose_settings
from pipeline.engine import cluster, prepare
from pipeline.engine.installation import Installation
from pipeline.errors import EngineError, SettingsError
from pipeline.resolve import resolve
from tests.helpers.clusters import free_ports
from tests.helpers.settings import Compose


def ignore(text: str) -> None:
    """Accept a message."""


def test_an_address_without_a_cluster_is_refused(compose: Compose) -> None:
    (port,) = free_ports(1)
    with pytest.raises(SettingsError) as caught:
        prepare(compose("engine=ray", f"engine.address=127.0.0.1:{port}"), ignore)
    assert str(caught.value) == (
        f"engine.address must be the address of a running Ray cluster; got 127.0.0.1:{port} (Connection refused). "
        "Start it with `ray start --head`, or leave engine.address=null to start Ray for this run."
    )


def test_ray_must_be_installed(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(SettingsError) as caught:
        prepare(compose("engine=ray"), ignore)
    assert str(caught.value) == (
        "engine=ray must have its package installed; got none. Install it: pip install 'pcace[ray]'."
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("engine=ray", "engine.address=ray://head:10001"),
            'engine.address must be auto or have the form host:port; got "ray://head:10001".',
        ),
        (("engine=ray", "engine.num_cpus=0"), "engine.num_cpus must be at least 1; got 0."),
        (("engine=spark",), "engine must be one of local, ray; got 'spark'."),
        (
            ("engine.num_cpus=2",),
            "engine.num_cpus must be a known setting; got 2. Add engine=ray.",
        ),
    ],
)
def test_settings_that_are_refused(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        compose_settings(list(overrides))
    assert str(caught.value) == message


def test_a_node_with_other_packages_or_settings_is_refused(compose: Compose) -> None:
    settings = resolve(compose("engine=ray"))
    own = Installation.of("reduce", settings, runs_network=False)
    own.check(settings, runs_network=False, host="here")
    for changed, differing in (
        (replace(own, versions={**own.versions, "numpy": "1.0"}), f"numpy {own.versions['numpy']} instead of 1.0"),
        (
            replace(own, identity={"reduce": {"n_components": "0" * 64}}),
            "reduce.n_components 1 instead of 000000000000...",
        ),
    ):
        with pytest.raises(EngineError) as caught:
            changed.check(settings, runs_network=False, host="node1")
        assert str(caught.value) == (
            f"all nodes must have the code, the packages, the weights and the device of the command; got {differing} "
            "(node node1). Install the same versions on all nodes, and reserve a GPU with engine.num_gpus if the "
            "network runs on one."
        )
