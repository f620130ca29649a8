"""Weights come back, and what holds others is refused. Foul files are in test_hostile.py."""

import pytest
import torch
from torch import nn

from s4lib import MNISTNet, UsageError
from s4lib.runtime.checkpoint import (
    SHIPPED_WEIGHTS,
    atomic_write,
    load_weights,
    make_dir,
    save_weights,
)


@pytest.mark.parametrize("make", [MNISTNet, lambda: nn.Linear(3, 2)])
def test_any_networks_weights_come_back(make, tmp_path):
    model, other = make(), make()
    save_weights(tmp_path / "weights.pt", model.state_dict())
    assert load_weights(other, tmp_path / "weights.pt") is other
    assert not other.training
    for name, value in model.state_dict().items():
        assert value.equal(other.state_dict()[name]), name
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pt"]


def test_others_may_read_what_the_users_umask_lets_them(tmp_path):
    atomic_write(tmp_path / "saved", b"")
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "saved").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_files_that_hold_no_weights_are_refused(tmp_path):
    path = tmp_path / "weights.pt"
    whole = SHIPPED_WEIGHTS.read_bytes()
    for content in (b"", b"seven", whole[:1000], whole[:-1000], bytes(5000)):
        path.write_bytes(content)
        with pytest.raises(UsageError, match="not a file of weights"):
            load_weights(MNISTNet(), path)
    with pytest.raises(UsageError, match="No such file"):
        load_weights(MNISTNet(), tmp_path / "missing.pt")
    with pytest.raises(UsageError, match=r"Can't read|not a file of weights"):
        load_weights(MNISTNet(), tmp_path)


@pytest.mark.parametrize(
    "state",
    [
        nn.Linear(32, 10).state_dict(),
        {**MNISTNet().state_dict(), "fc.weight": torch.zeros(10, 64)},
        {**MNISTNet().state_dict(), "fc.weight": 7},
        {},
        [1, 2],
        torch.zeros(3),
    ],
    ids=["other layers", "other shape", "no tensor", "empty", "a list", "one tensor"],
)
def test_weights_of_another_network_are_refused(state, tmp_path):
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(UsageError, match="holds the weights of another network"):
        load_weights(MNISTNet(), tmp_path / "weights.pt")


def test_what_is_there_already_is_not_written_again(tmp_path):
    path = tmp_path / "file"
    atomic_write(path, b"content")
    before = path.stat().st_mtime_ns, path.stat().st_ino
    atomic_write(path, b"content")
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


def test_a_folder_that_is_a_file_can_not_be_written(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UsageError, match="Can't write into"):
            make_dir(folder)
