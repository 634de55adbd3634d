"""Weights between two policies."""

from pathlib import Path

import pytest
import torch

from policies.encoding import Encoder
from policies.learner.learner import LocalLearner
from policies.weights import weights_sha256


@pytest.mark.heavy
def test_a_shrunk_policy_lies_between_its_parents_on_disk_too(text_model: Path, tmp_path: Path) -> None:
    learner = LocalLearner(Encoder(str(text_model), lambda digest: None))  # type: ignore[arg-type, return-value]
    start, end = learner.load(text_model), learner.load(text_model)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in end.parameters():
            parameter.add_(torch.randn_like(parameter))
    expected = {
        name: 0.75 * parameter + 0.25 * dict(end.named_parameters())[name]
        for name, parameter in start.state_dict(keep_vars=True).items()
        if name in dict(end.named_parameters())
    }
    digest = learner.publish(learner.interpolate(start, end, 0.25), tmp_path / "shrunk")
    assert digest == weights_sha256(tmp_path / "shrunk")
    read = dict(learner.load(tmp_path / "shrunk").named_parameters())
    assert expected.keys() == read.keys()
    for name, value in expected.items():
        torch.testing.assert_close(read[name], value, rtol=0, atol=1e-6)
