"""Priors taught by their own samples: a classifier of real images says what each drawn image shows.

A prior that is asked for a shirt sometimes draws what every classifier calls a coat. Given the label it was asked for,
such a sample teaches a classifier a wrong border; given the label of what it shows, it teaches a right one. So a fitted
generator draws a set of samples, a classifier that was trained on the real images labels them anew, and both priors are
trained on, with these samples among the real ones. Sampling costs what it did before.

This is self-training with pseudo-labels (Lee 2013, "Pseudo-Label") applied to a generator; it is ours, not a part of
VQ-VAE-2. What it was worth: docs/LOG.md.
"""

import dataclasses
import hashlib
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from caskit.gen.autoregressive.config import Settings, check_integer, check_number
from caskit.gen.autoregressive.encoding import EncodingTask, codes_digest
from caskit.gen.autoregressive.fitting import PriorTask
from caskit.gen.autoregressive.mixture import Mixture
from caskit.gen.autoregressive.stage import StageConfig
from caskit.gen.checkpoint import Checkpoint, derived_there, save_checkpoint
from caskit.gen.own_judge import own_judge, own_rejection
from caskit.gen.rejection import check_classifier
from caskit.gen.streams import STREAM_KEY_BYTES, Streams
from caskit.gen.vqvae2.config import BOTTOM, TOP
from caskit.gen.vqvae2.fitting import CODES, NAME, WORK_FOLDER, Stages
from caskit.gen.vqvae2.sampler import Vqvae2Generator, load
from caskit.gen.vqvae2.weights import checkpoint_tensors, load_networks
from caskit.manifests.canonical import canonical_json
from caskit.manifests.errors import InputError, RunFailed
from caskit.shards.dataset import FrozenSet
from caskit.train.engine import ALONE, EngineConfig, Progress, run
from caskit.train.images import Images
from caskit.train.training import Classifier

DRAWN, LABEL = "drawn", "label"
_STREAM_DOMAIN = b"caskit/vqvae2/refine/1\0"  # apart from the streams of any plan
TOP_STAGE = StageConfig(num_steps=12_000, batch_size=32, learning_rate=1.5e-3, ema_decay=0.999, optimizer="muon")
BOTTOM_STAGE = dataclasses.replace(TOP_STAGE, num_steps=7000)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RefineConfig:
    """What decides a refinement besides the checkpoint, the data and the classifier.

    Attributes:
        num_drawn: samples that are drawn and labelled anew, class by class in turn.
        share_drawn: of what the priors are trained on, the rest is real. All drawn samples and all real ones take part:
            the fewer are repeated.
        top, bottom: how each prior is trained on.
        seed: of the samples, the order and dropout.
        threads: intra-op threads; the last bits depend on it.
    """

    num_drawn: int = 120_000
    share_drawn: float = 0.5
    top: StageConfig = TOP_STAGE
    bottom: StageConfig = BOTTOM_STAGE
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        for name, (low, high) in {"num_drawn": (1, 10**8), "seed": (0, 2**53 - 1), "threads": (1, 1024)}.items():
            check_integer(name, getattr(self, name), low, high)
        check_number("share_drawn", self.share_drawn, 0.01, 0.99)


def refine(
    checkpoint: Checkpoint,
    data: FrozenSet,
    classifier: Classifier,
    config: RefineConfig,
    out: Path,
    *,
    device: torch.device,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Checkpoint:
    """Write a checkpoint whose priors learned from relabelled samples; called again, it goes on where it stopped.

    Args:
        checkpoint: a fitted generator of this family.
        data: the real set that it was fitted to, of its classes and image size.
        classifier: trained on that set, of the same classes and images, on `device`.
        config: how.
        out: the new checkpoint's folder; resume points and JSONL logs go to `_work` below it.
        device: where to compute.
        progress: told how far a stage is.
        stop: asked before every step whether to stop.

    Returns:
        the new checkpoint, which names the old one and all of this.

    Raises:
        InputError: the three do not fit together, or `out` holds something else.
        NotFinished: `stop` said so.
        RunFailed: a sample is not finite.
    """
    if out.resolve() == checkpoint.path.resolve():
        raise InputError(f"{out}: is the folder of the checkpoint to refine, use another one")
    check_fits(checkpoint, data, classifier)
    record = checkpoint.record
    transform = canonical_json(
        {
            "name": "relabelled-samples",
            **dataclasses.asdict(config),
            "content_root": data.replica.content_root,
            "classifier_id": classifier.record["classifier_id"],
            "device": device.type,
        }
    ).decode()
    if (there := derived_there(out, checkpoint, transform)) is not None:
        return there
    rejection = own_rejection(checkpoint)
    judge = None if rejection is None else own_judge(checkpoint, rejection)  # before anything that takes hours
    autoencoder, priors, fitted = load_networks(checkpoint)
    stages = Stages(data, fitted, out, device=device, progress=progress, stop=stop, world=ALONE)
    torch.set_num_threads(config.threads)
    real = stages.codes(autoencoder.to(device))
    generator = load(checkpoint, Settings(), device)
    folder = out / WORK_FOLDER
    drawing = EncodingTask(
        _drawing(generator, classifier, config, mirrored=fitted.mirrored),
        {
            TOP: (config.num_drawn, *generator.code_shapes[TOP]),
            BOTTOM: (config.num_drawn, *generator.code_shapes[BOTTOM]),
            LABEL: (config.num_drawn, 1, 1),
        },
        folder / DRAWN / CODES,
        world=ALONE,
    )
    engine = EngineConfig(seed=config.seed)
    made_from = {"checkpoint_id": checkpoint.checkpoint_id, "transform": transform}

    def go(task: "EncodingTask | PriorTask", name: str, identity: Mapping[str, str], batch_size: int) -> None:
        run(
            task,
            out=folder / name,
            identity={"family": NAME, **made_from, **identity},
            config=engine,
            batch_size=batch_size,
            progress=progress,
            stop=stop,
            name=name,
        )

    go(drawing, DRAWN, {}, 1)
    drawn = drawing.codes()
    real[TOP] = real[TOP][: len(real[BOTTOM])]  # shifts are for a first fit
    mixture = Mixture(len(real[BOTTOM]), config.num_drawn, config.share_drawn)
    labels = mixture.of(np.tile(data.labels, 2 if fitted.mirrored else 1), drawn[LABEL][:, 0, 0])
    maps = {level: mixture.of(real[level], drawn[level]) for level in (TOP, BOTTOM)}
    digests = {"drawn": codes_digest(drawn), "real": codes_digest(real)}
    for level in (TOP, BOTTOM):
        stage: StageConfig = getattr(config, level)
        torch.manual_seed(config.seed)
        task = PriorTask(
            priors[level],
            maps[level],
            labels[np.arange(len(mixture))],
            maps[TOP] if level == BOTTOM else None,
            num_steps=stage.num_steps,
            batch_size=stage.batch_size,
            optimizer=stage.optimizer,
            learning_rate=stage.rate,
            ema_decay=stage.ema_decay,
            seed=config.seed,
            precision=fitted.precision,
            world=ALONE,
        )
        go(task, f"refined-{level}", digests, stage.batch_size)
        priors[level] = task.fitted
    return save_checkpoint(
        out,
        family=record["family"],
        preset=record["preset"],
        config=record["config"],
        classes=checkpoint.classes,
        height=record["height"],
        width=record["width"],
        channels=record["channels"],
        tensors=checkpoint_tensors(autoencoder, priors, fitted.storage),
        derived_from=checkpoint.checkpoint_id,
        transform=transform,
        rejection=rejection,
        judge=judge,
    )


def check_fits(checkpoint: Checkpoint, data: FrozenSet, classifier: Classifier) -> None:
    """Raise InputError unless checkpoint, data and classifier are of the same classes and images.

    The classifier has to be one of this very set: what it learned elsewhere, from test images above all, would get into
    the samples and into every score of them.
    """
    record, images = checkpoint.record, Images(data)
    where = f"{data.store.location}: "
    if data.split not in (None, "train"):
        raise InputError(f"{where}is a {data.split} split, a generator does not learn from what it is scored on")
    if data.classes != checkpoint.classes:
        raise InputError(f"{where}its class list is not that of checkpoint {checkpoint.path}")
    ours, theirs = ((of["height"], of["width"], of["channels"]) for of in (record, vars(images)))
    if ours != theirs:
        shown = " and ".join("{}x{} with {} channels".format(*shape) for shape in (theirs, ours))
        raise InputError(f"{where}its images and those of checkpoint {checkpoint.path} differ: {shown}")
    sides = (record["height"], record["width"], record["channels"])
    check_classifier(classifier.path, classifier.record, record["classes"], *sides, "the checkpoint")
    if classifier.record["data"]["content_root"] != data.replica.content_root:
        raise InputError(f"{classifier.path}: the classifier was not trained on {data.store.location}, as it has to be")


def _drawing(
    generator: Vqvae2Generator, classifier: Classifier, config: RefineConfig, *, mirrored: bool
) -> Callable[[np.ndarray], Mapping[str, Tensor]]:
    """Return what draws samples by number and labels them: codes per level, and the likeliest class.

    Sample i is asked for class i modulo their number and depends on the seed and i alone. Where mirror images have the
    same label, the class is that of the mean probability of both.
    """
    from caskit.train.classifier import prepare  # on use: timm takes seconds to import

    def probabilities(images: np.ndarray) -> Tensor:
        logits: Tensor = classifier.model(prepare(images, classifier.recipe, classifier.device))
        return logits.float().softmax(dim=1)

    def draw(ids: np.ndarray) -> Mapping[str, Tensor]:
        asked = ids % len(generator.classes)
        numbers = (struct.pack(">2Q", config.seed, int(i)) for i in ids)
        streams = Streams([hashlib.sha256(_STREAM_DOMAIN + n).digest()[:STREAM_KEY_BYTES] for n in numbers])
        codes = generator.sample_codes(asked, streams)
        images, finite = generator.decode_codes(asked, codes)
        if not finite.all():
            raise RunFailed(f"sample {ids[np.argmin(finite)]} of the samples to learn from is not finite")
        shown = probabilities(images)
        if mirrored:
            shown = shown + probabilities(np.ascontiguousarray(images[:, :, ::-1]))
        maps = {name: torch.from_numpy(values.astype(np.int64)) for name, values in codes.items()}
        return {**maps, LABEL: shown.argmax(dim=1)[:, None, None]}

    return draw
