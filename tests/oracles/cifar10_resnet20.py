"""Make cifar10_resnet20.json: every channel's scores, by scikit-learn and the `ace` package, none of our pipeline.

    python tests/oracles/cifar10_resnet20.py SHARED_DATA

First 300 photographs of cat by name, `layer3.2.conv2` of the pretrained CIFAR-10 ResNet-20, one batch, 1 and 10
components. Only the network's definition is ours (its accuracy on 3,000 photographs is tested elsewhere).
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import torch
from ace.ace import ACESolver
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from examples.cifar10_resnet20.network import resnet20  # noqa: E402


def main(data: Path) -> None:
    state = torch.load(data / "weights" / "resnet20-12fca82f.th", map_location="cpu", weights_only=True)["state_dict"]
    network = resnet20()
    network.load_state_dict({name.removeprefix("module."): value for name, value in state.items()}, strict=False)
    network.eval()
    pixels = [np.array(Image.open(path)) for path in sorted((data / "cifar10" / "cat").glob("*.jpg"))[:300]]
    mean, std = (np.array(each, np.float32) for each in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    inputs = (np.stack(pixels).astype(np.float32) / np.float32(255) - mean) / std
    maps: list[torch.Tensor] = []
    network.get_submodule("layer3.2.conv2").register_forward_hook(
        lambda module, arguments, output: maps.append(output.clone())
    )
    with torch.no_grad():
        score = network(torch.from_numpy(inputs.transpose(0, 3, 1, 2).copy()))[:, 3].double().numpy()
    golden = {}
    for n_components in (1, 10):
        found = [
            solve(maps[0][:, channel].double().numpy().reshape(300, -1), score, n_components) for channel in range(64)
        ]
        golden[n_components] = {
            "maximal": [round(maximal, 8) for maximal, _ in found],
            "first": [round(first, 8) for _, first in found],
        }
    (HERE / "cifar10_resnet20.json").write_text(json.dumps(golden, indent=1) + "\n")


def solve(pixels: np.ndarray, score: np.ndarray, n_components: int) -> tuple[float, float]:
    components = PCA(n_components, svd_solver="full").fit_transform(StandardScaler().fit_transform(pixels))
    solver = ACESolver()
    solver.specify_data_set(list(components.T), score)
    with contextlib.redirect_stdout(io.StringIO()):
        solver.solve()
    phi, theta = np.array(solver.x_transforms), solver.y_transform
    return float(np.corrcoef(phi.sum(axis=0), theta)[0, 1]), float(abs(np.corrcoef(phi[0], theta)[0, 1]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
