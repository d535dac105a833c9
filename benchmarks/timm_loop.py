"""What timm's train.py does in a step, from timm's own parts: that script is in neither timm's wheel nor its sdist.

Its flags, as far as train_vs_timm.py gives them; its calls in its order: create_model, create_optimizer_v2,
create_dataset, create_loader, create_scheduler_v2, then per batch forward, loss, backward, step, `loss.item()`,
zero_grad, step_update. What a user may turn off there is off: validation, checkpoints, averages, mixed precision.
`train_vs_timm.py --script PATH` runs the script itself in place of this file.
"""

import argparse

import timm.data
import timm.models
import timm.optim
import timm.scheduler
import timm.utils
import torch
from torch import nn


def parse() -> argparse.Namespace:
    """Read the flags, named as those of timm's script."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("data-dir", "dataset", "train-split", "val-split", "model", "opt", "sched", "output", "device"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--train-interpolation", default="random")
    for name in ("num-classes", "img-size", "batch-size", "workers", "epochs", "log-interval", "seed", "warmup-epochs"):
        parser.add_argument(f"--{name}", type=int, default=0)
    for name in ("lr", "momentum", "weight-decay", "hflip", "color-jitter", "smoothing"):
        parser.add_argument(f"--{name}", type=float, default=0.0)
    for name in ("mean", "std", "scale", "ratio"):
        parser.add_argument(f"--{name}", type=float, nargs="+")
    parser.add_argument("--channels-last", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Train until something ends the process."""
    arguments = parse()
    device = torch.device(arguments.device)
    timm.utils.random_seed(arguments.seed, 0)
    model = timm.models.create_model(arguments.model, pretrained=False, num_classes=arguments.num_classes)
    model.to(device=device)
    if arguments.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = timm.optim.create_optimizer_v2(
        model,
        opt=arguments.opt,
        lr=arguments.lr,
        momentum=arguments.momentum,
        weight_decay=arguments.weight_decay,
    )
    dataset = timm.data.create_dataset(
        arguments.dataset,
        root=arguments.data_dir,
        split=arguments.train_split,
        is_training=True,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
    )
    loader = timm.data.create_loader(
        dataset,
        input_size=(3, arguments.img_size, arguments.img_size),
        batch_size=arguments.batch_size,
        is_training=True,
        scale=arguments.scale,
        ratio=arguments.ratio,
        hflip=arguments.hflip,
        color_jitter=arguments.color_jitter,
        interpolation=arguments.train_interpolation,
        mean=arguments.mean,
        std=arguments.std,
        num_workers=arguments.workers,
        device=device,
    )
    scheduler, num_epochs = timm.scheduler.create_scheduler_v2(
        optimizer,
        sched=arguments.sched,
        num_epochs=arguments.epochs,
        warmup_epochs=arguments.warmup_epochs,
        updates_per_epoch=len(loader),
    )
    assert scheduler is not None, "the flags name one"
    loss_of = nn.CrossEntropyLoss().to(device=device)
    losses, updates = timm.utils.AverageMeter(), 0
    for _ in range(num_epochs):
        model.train()
        optimizer.zero_grad()
        for images, labels in loader:
            if arguments.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            loss = loss_of(model(images), labels)
            loss.backward()
            optimizer.step()
            losses.update(loss.item(), images.size(0))
            updates += 1
            optimizer.zero_grad()
            scheduler.step_update(num_updates=updates, metric=losses.avg)


if __name__ == "__main__":
    main()
