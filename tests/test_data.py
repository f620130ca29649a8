"""Where digits come from: on disk, packed, served, damaged, or not there at all."""

import http.server
import multiprocessing
import shutil
import threading
from dataclasses import replace

import pytest
import torch
from torchvision.datasets import MNIST

from s4lib import UsageError, data
from s4lib.data import Batches, load, normalise
from s4lib.runtime import download

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@pytest.fixture
def mirror(tiny_mnist, monkeypatch):
    """A server of the four packed files, which torchvision knows as its second mirror.

    Its first mirror is a folder there that does not exist, unless a test makes `change` a function
    of what it sends. After that it is silent until `talk` is set.
    """
    raw = tiny_mnist / "MNIST" / "raw"

    class Server(http.server.ThreadingHTTPServer):
        change, talk = None, threading.Event()
        folder = raw

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            first = self.path.count("/") > 1
            if first and not self.server.change:
                return self.send_error(404)
            content = (raw / self.path.rpartition("/")[2]).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(self.server.change(content) if first else content)
            if first:
                self.wfile.flush()
                self.server.talk.wait(30)

        def log_message(self, *args):
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        server.talk.set()
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setattr(MNIST, "mirrors", [f"{address}elsewhere/", address])
        yield server
        server.shutdown()


def test_packed_files_are_unpacked_once(tiny_mnist):
    first = load("mnist", tiny_mnist)
    assert first.name == "MNIST"
    images, labels = first.train
    assert images.shape == (40, 1, 28, 28)
    assert images.dtype == torch.uint8
    assert labels.tolist() == [i % 10 for i in range(40)]
    assert labels.dtype == torch.int64
    assert first.test[0].shape == (20, 1, 28, 28)
    raw = tiny_mnist / "MNIST" / "raw"
    assert sorted(path.name for path in raw.iterdir()) == sorted(
        [*NAMES, *(f"{name}.gz" for name in NAMES)]
    )
    for path in raw.glob("*.gz"):
        path.unlink()
    assert load("mnist", tiny_mnist).train[0].equal(images)


def test_packed_files_in_a_read_only_folder_are_read(tiny_mnist, monkeypatch):
    def refuse(*_):
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr("os.replace", refuse)
    assert load("mnist", tiny_mnist).train[0].shape == (40, 1, 28, 28)
    assert not (tiny_mnist / "MNIST" / "raw" / NAMES[0]).exists()


def test_missing_files_are_downloaded_from_a_mirror_that_has_them(mirror, tmp_path):
    root = tmp_path / "new" / "data"
    downloaded = load("auto", root)
    assert downloaded.name == "MNIST"
    assert downloaded.train[0].equal(load("mnist", mirror.folder.parent.parent).train[0])
    assert sorted(path.name for path in (root / "MNIST" / "raw").iterdir()) == sorted(NAMES)


@pytest.mark.parametrize(
    "sends",
    [lambda c: c[:-50], lambda c: c[:50] + b"?" + c[51:]],
    ids=["cut", "damaged"],
)
def test_the_next_mirror_is_asked_when_one_sends_damaged_files(mirror, sends, tmp_path):
    mirror.change = sends
    assert load("mnist", tmp_path / "new").train[0].shape == (40, 1, 28, 28)
    assert sorted(path.name for path in (tmp_path / "new/MNIST/raw").iterdir()) == sorted(NAMES)


def test_the_next_mirror_is_asked_when_one_falls_silent(mirror, tmp_path, monkeypatch):
    mirror.change = lambda content: content[:100]
    mirror.talk.clear()
    monkeypatch.setattr(download, "SILENCE", 0.2)
    assert load("mnist", tmp_path / "new").train[0].shape == (40, 1, 28, 28)
    mirror.talk.set()


def test_two_processes_may_download_at_once(mirror, tmp_path):
    root = tmp_path / "new"
    fork = multiprocessing.get_context("fork")  # which inherits the mirror
    processes = [fork.Process(target=load, args=("mnist", root)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert sorted(path.name for path in (root / "MNIST" / "raw").iterdir()) == sorted(NAMES)
    assert load("mnist", root).train[0].shape == (40, 1, 28, 28)


@pytest.mark.parametrize("layout", ["{0}", "{1}", "{0}/{0}", "{1}/{1}"])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_files_lie_flat_or_as_kaggle_has_them(tiny_mnist, tmp_path, layout, ending):
    """Such as train-images.idx3-ubyte; torchvision's layout is tested by all others."""
    whole, raw = load("mnist", tiny_mnist), tiny_mnist / "MNIST" / "raw"
    for name in NAMES:
        place = (
            tmp_path / "flat" / layout.format(name + ending, name.replace("-idx", ".idx") + ending)
        )
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(raw / (name + ending), place)
    assert load("mnist", tmp_path / "flat").test[0].equal(whole.test[0])


def test_a_tilde_is_the_home_folder(tiny_mnist, monkeypatch):
    monkeypatch.setenv("HOME", str(tiny_mnist.parent))
    monkeypatch.setenv("S4_DATA", f"~/{tiny_mnist.name}")
    assert load().name == "MNIST"


def test_every_mirror_s_reason_is_given(mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(MNIST, "mirrors", ["http://host.invalid/", f"{MNIST.mirrors[0]}nowhere/"])
    with pytest.raises(UsageError, match=r"(not known|resolution).*; HTTP Error 404"):
        load("mnist", tmp_path / "new")


def test_a_damaged_download_leaves_nothing_behind(mirror, tmp_path):
    packed = mirror.folder / f"{NAMES[0]}.gz"
    packed.write_bytes(packed.read_bytes()[:-100])
    with pytest.raises(UsageError, match="can't be fetched"):
        load("mnist", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_without_mnist_auto_says_so_in_one_line_and_takes_the_digits(tiny_mnist, tmp_path, capsys):
    assert load("auto", tmp_path / "nothing").name == "scikit-learn digits"
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"No MNIST in {tmp_path / 'nothing'} (no mirror delivers ")
    assert line.endswith("using scikit-learn's 1,797 digits instead.")


def test_without_mnist_insisting_fails_with_instructions(tiny_mnist, tmp_path):
    with pytest.raises(UsageError, match=r"is not in .*nothing and can't be fetched") as caught:
        load("mnist", tmp_path / "nothing")
    assert "the bundled data set, digits" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2
    assert not (tmp_path / "nothing").exists()


def truncate(raw, name=NAMES[0]):
    path = raw / name
    path.write_bytes(path.read_bytes()[:-1])
    return path


def truncate_packed(raw):
    return truncate(raw, f"{NAMES[0]}.gz")


def flip_a_bit(raw):
    path = raw / NAMES[2]
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    return path


def swap(raw):
    shutil.copy(raw / NAMES[3], raw / NAMES[1])
    return raw / NAMES[1]


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, swap, truncate_packed])
@pytest.mark.parametrize("name", ["auto", "mnist"])
def test_a_damaged_file_is_named(tiny_mnist, damage, name):
    if damage is not truncate_packed:
        load("mnist", tiny_mnist)  # unpacks
    path = damage(tiny_mnist / "MNIST" / "raw")
    with pytest.raises(UsageError, match="Delete it") as caught:
        load(name, tiny_mnist)
    assert str(caught.value).startswith(f"{path} is damaged")
    if damage is not truncate_packed:
        path.unlink()
        assert load(name, tiny_mnist).name == "MNIST"  # unpacked again


def test_digits_look_like_mnist(digits):
    (images, labels), (test_images, test_labels) = digits.train, digits.test
    assert images.shape == (1437, 1, 28, 28)
    assert test_images.shape == (360, 1, 28, 28)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert images[:, :, 4:24, 4:24].sum() == images.sum()  # a box of 20×20, as in MNIST
    assert torch.bincount(test_labels).min() >= 34  # every class, in proportion
    again = load("digits")
    assert again.train[0].equal(images)
    assert again.test[1].equal(test_labels)
    pixels = digits.normalise(images)
    assert abs(pixels.mean()) < 1e-4
    assert abs(pixels.std() - 1) < 1e-4


def test_held_out_images_are_the_last_training_images(digits):
    held_out = digits.hold_out(100)
    assert held_out.train[0].equal(digits.train[0][:-100])
    assert held_out.test[0].equal(digits.train[0][-100:])
    assert held_out.test[1].equal(digits.train[1][-100:])
    assert held_out.name == "scikit-learn digits, 100 training images held out"


@pytest.mark.parametrize("count", [0, -1, 1437, 2000, 1.5])
def test_something_is_left_to_train_on_and_to_test_on(count, digits):
    with pytest.raises(UsageError, match="to hold out must be a whole number from 1 to 1436"):
        digits.hold_out(count)


def batches(dataset, size=100, seed=0, **options):
    return Batches(dataset, size, torch.Generator().manual_seed(seed), **options)


def test_batches_show_every_image_at_most_once_and_drop_the_rest(digits):
    shown = list(batches(digits))
    assert len(shown) == len(batches(digits)) == 14
    assert {images.shape for images, _ in shown} == {(100, 1, 28, 28)}
    assert shown[0][0].dtype == torch.float32
    flat = torch.cat([images for images, _ in shown]).flatten(1)
    wanted = digits.normalise(digits.train[0].float()).flatten(1)
    positions = torch.cdist(flat, wanted).argmin(1)
    assert positions.unique().numel() >= 1395  # a few of the 1,437 look exactly alike
    labels = torch.cat([labels for _, labels in shown])
    assert (labels == digits.train[1][positions]).float().mean() > 0.99


def test_batches_differ_from_pass_to_pass_and_repeat_with_the_seed(digits):
    one, same, other = batches(digits), batches(digits), batches(digits, seed=1)
    first, second = next(iter(one)), next(iter(one))
    assert not first[0].equal(second[0])
    assert first[0].equal(next(iter(same))[0])
    assert not first[0].equal(next(iter(other))[0])


def test_batches_are_augmented_before_they_are_normalised(digits):
    seen = []

    def blank(images):
        seen.append((images.dtype, images.max().item()))
        return torch.zeros_like(images)

    images, _ = next(iter(batches(digits, augment=blank)))
    assert seen == [(torch.float32, 255)]
    assert images.unique().item() == pytest.approx(-digits.mean / digits.std)


def test_a_share_of_the_images_is_those_of_highest_loss_in_another_order(digits):
    """As they were when last shown, and first of all those that never were."""
    some = replace(digits, train=tuple(part[:430] for part in digits.train))
    ours, shown, losses = batches(some), [], torch.full((430,), torch.inf)
    random = torch.Generator().manual_seed(7)

    def one_pass():
        for _, labels in ours:
            assert labels.equal(some.train[1][ours.shown])
            log_probs = torch.randn(100, 10, generator=random).log_softmax(1)
            ours.record(log_probs)
            losses[ours.shown] = -log_probs[torch.arange(100), labels]
            shown.append(ours.shown)

    one_pass()
    assert len(torch.cat(shown).unique()) == 400  # 30 were left over
    ours.share = 0.5
    for steps in (6, 8):
        hardest = losses.topk(200).indices
        one_pass()
        last = torch.cat(shown[-2:])
        assert len(shown) == steps
        assert len(ours) == 2
        assert last.sort().values.equal(hardest.sort().values)
        assert not last.equal(last.sort().values)
        assert not last.equal(hardest)  # shuffled, not by loss
        assert ours.losses.equal(losses)
    assert not losses.isinf().any()  # the 30 had gone first


def test_a_share_is_at_least_one_batch(digits):
    assert [batches(digits).steps(share) for share in (1, 0.5, 0.2, 0.01)] == [14, 7, 2, 1]


def test_batches_without_what_was_recorded_are_other_batches(digits):
    ours, theirs = batches(digits, share=0.1), batches(digits, share=0.1)
    ours.losses = torch.arange(1437.0)
    theirs.load_state_dict(ours.state_dict())
    for one in (ours, theirs):
        list(one)
        assert one.shown.min() >= 1337


def test_a_batch_that_is_too_large_or_can_not_be_shared_is_refused(digits, monkeypatch):
    with pytest.raises(UsageError, match=r"A batch of 1,438 is larger than the 1,437 training"):
        batches(digits, 1438)
    monkeypatch.setattr(data, "world_size", lambda: 2)
    with pytest.raises(UsageError, match="25 can't be shared equally among 2 processes"):
        batches(digits, 25)


def test_mnist_is_whole(mnist):
    (images, labels), (test_images, test_labels) = mnist.train, mnist.test
    assert images.shape == (60_000, 1, 28, 28)
    assert test_images.shape == (10_000, 1, 28, 28)
    assert torch.bincount(labels).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949
    ]  # fmt: skip
    assert torch.bincount(test_labels).sum() == 10_000
    pixels = images.double() / 255
    assert pixels.mean().item() == pytest.approx(data.MNIST_MEAN, abs=5e-5)
    assert pixels.std().item() == pytest.approx(data.MNIST_STD, abs=5e-5)


def test_normalise_takes_ink_to_mean_0_and_deviation_1():
    ink = torch.tensor([0, 255], dtype=torch.uint8)
    assert normalise(ink).tolist() == pytest.approx([-0.1307 / 0.3081, (1 - 0.1307) / 0.3081])
    assert normalise(ink.byte(), mean=0, std=1).tolist() == [0, 1]
