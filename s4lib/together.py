"""Several seeds of a recipe as one batched network: for a GPU that a single one leaves idle."""

import time
from dataclasses import asdict

import torch
import torch.nn.functional as F

from s4lib.data import Batches, Dataset
from s4lib.history import Epoch, History
from s4lib.model import MNISTNet
from s4lib.recipes import Recipe
from s4lib.train import (
    choose_device,
    choose_precision,
    evaluate,
    make_optimizer,
    make_schedule,
    smooth,
)


def fit_together(
    recipe: Recipe, dataset: Dataset, seeds: list[int], device: str = "auto"
) -> list[tuple[MNISTNet, History]]:
    """`fit` for every seed, all at once: each step trains S networks on S batches of their own.

    Every network starts from the weights, and sees the images, that `fit` would give it; sums in
    another order, and with dropout other draws, lead it to other weights in the end.
    """
    device = choose_device(device)
    precision = choose_precision(device)
    if precision == torch.float16:  # whose loss scale would be common to all networks
        precision = torch.float32
    dataset = dataset.to(device)
    models, loaders = [], []
    for seed in seeds:
        torch.manual_seed(seed)
        generator = torch.Generator(device).manual_seed(seed)
        loaders.append(Batches(dataset, recipe.batch_size, generator))
        models.append(MNISTNet(recipe.dropout_block3, recipe.dropout_head).to(device))
    parameters, buffers = torch.func.stack_module_state(models)  # name: (S, …)
    optimizer = make_optimizer(parameters.values(), recipe, fused=True)
    schedule = make_schedule(optimizer, recipe, len(loaders[0]))

    def forward(parameters, buffers, images):
        return torch.func.functional_call(models[0], (parameters, buffers), images)

    networks = torch.vmap(forward, randomness="different")
    name = str(precision).removeprefix("torch.")
    runs = [History(asdict(recipe), dataset.name, seed, str(device), name) for seed in seeds]
    print(f"{recipe.name} on {dataset.name}, {device}, {name}: seeds {seeds} together\n")
    for epoch in range(1, recipe.epochs + 1):
        start, lr = time.perf_counter(), schedule.get_last_lr()[0]
        models[0].train()
        loss_sum, correct = torch.zeros(2, len(seeds), device=device)
        for loader in loaders:
            loader.augment = recipe.augmentation(loader.generator, epoch)
        for batches in zip(*loaders, strict=True):
            images, labels = (torch.stack(parts) for parts in zip(*batches, strict=True))
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                log_probs = networks(parameters, buffers, images)  # (S, B, 10)
                losses = F.nll_loss(log_probs.mT, labels, reduction="none").mean(1)
                targets = smooth(losses, log_probs, recipe.label_smoothing)
            optimizer.zero_grad()
            targets.sum().backward()
            optimizer.step()
            schedule.step()
            loss_sum += losses.detach()
            correct += (log_probs.argmax(2) == labels).sum(1)
        loss_sum, correct = loss_sum / len(loaders[0]), correct / len(loaders[0])
        for i, (model, run) in enumerate(zip(models, runs, strict=True)):
            state = {**parameters, **buffers}
            model.load_state_dict({name: value[i] for name, value in state.items()})
            test_loss, right = evaluate(model, dataset)
            run.epochs.append(
                Epoch(
                    epoch=epoch,
                    lr=lr,
                    train_loss=loss_sum[i].item(),
                    train_accuracy=100 * correct[i].item() / recipe.batch_size,
                    test_loss=test_loss,
                    test_accuracy=100 * right / len(dataset.test[1]),
                    test_correct=right,
                    test_images=len(dataset.test[1]),
                    seconds=0,
                )
            )
        for run in runs:
            run.epochs[-1].seconds = (time.perf_counter() - start) / len(runs)
        accuracies = " ".join(f"{run.epochs[-1].test_accuracy:.2f}" for run in runs)
        print(f"Epoch {epoch}: test accuracies {accuracies}", flush=True)
    return list(zip(models, runs, strict=True))
