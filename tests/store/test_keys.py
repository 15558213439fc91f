from __future__ import annotations

from pipeline.store import artifact_key

UPSTREAM = artifact_key("activate", 1, {"layer": "conv1"}, {})


def test_the_order_of_settings_does_not_change_the_key() -> None:
    one = artifact_key("reduce", 1, {"a": 1, "b": [2.5, None]}, {"activate": UPSTREAM})
    two = artifact_key("reduce", 1, {"b": [2.5, None], "a": 1}, {"activate": UPSTREAM})
    assert one == two
    assert str(one) == f"reduce/{one.digest[:20]}"


def test_stage_version_settings_and_upstream_artifacts_change_the_key() -> None:
    other_upstream = artifact_key("activate", 1, {"layer": "conv2"}, {})
    keys = {
        artifact_key("reduce", 1, {"n_components": 3}, {"activate": UPSTREAM}).digest,
        artifact_key("rank", 1, {"n_components": 3}, {"activate": UPSTREAM}).digest,
        artifact_key("reduce", 2, {"n_components": 3}, {"activate": UPSTREAM}).digest,
        artifact_key("reduce", 1, {"n_components": 4}, {"activate": UPSTREAM}).digest,
        artifact_key("reduce", 1, {"n_components": 3}, {"activate": other_upstream}).digest,
        artifact_key("reduce", 1, {"n_components": 3}, {}).digest,
    }
    assert len(keys) == 6
