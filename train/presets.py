"""The named recipes. Hours and scores without "measured" are those of the source named, on its machines."""

from collections.abc import Callable

from caskit.manifests.errors import InputError
from caskit.train.recipes import Recipe

NUM_IMAGENET = 1_281_167
# Of all photographs of ImageNet, the numbers that everybody's code holds.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def first_step(epochs: float, batch_size: int, num_images: int = NUM_IMAGENET) -> int:
    """Return the first optimizer step that begins after so many epochs."""
    steps = epochs * num_images / batch_size
    return int(steps) + (steps > int(steps))


def fashion_mnist() -> Recipe:
    """Fashion-MNIST's images, 28x28 grey; three epochs of 60,000.

    Command: caskit train --data runs/fashion-mnist/real/train --recipe fashion-mnist --seed 0 --out runs/real
    Hardware and time: two cores of an AMD EPYC, float32, 56 s.
    Expected score: 92.9 % real top-1 with seed 0; 92.5 % with threads=1, other last bits only: so far do runs differ.
    """
    return Recipe(
        name="fashion-mnist",
        resolution=28,
        mean=0.286,
        std=0.353,
        num_steps=700,
        optimizer="muon",
        learning_rate=0.02,
        weight_decay=0.01,
        flip="alternate",
    )


def digits() -> Recipe:
    """The digits of scikit-learn, 8x8 grey; one thread, as its tensors are too small for two.

    Command: caskit train --data runs/digits/real/train --recipe digits --seed 0 --out runs/real
    Hardware and time: one core of an AMD EPYC, float32, 4 s.
    Expected score: 98.3 % real top-1 with seed 0.
    """
    return Recipe(
        name="digits",
        widths=(32, 64, 64),
        num_poolings=2,
        resolution=8,
        mean=0.3,
        std=0.37,
        num_steps=400,
        batch_size=128,
        bn_batch=128,
        learning_rate=0.1,
        shift=1,
        threads=1,
    )


def cifar_resnet56() -> Recipe:
    """ResNet-56 on CIFAR-10, 32x32: He et al. 2015, section 4.2, which is the paper's CIFAR-10 classifier.

    Batch 128, 0.1 divided by 10 after 32,000 and 48,000 of 64,000 steps: 91, 136 and 182 epochs of 45,000 images. The
    paper prints a peak of 1.0, which He et al. and its Real row contradict. Weight decay of everything, shifts by
    up to 4 pixels with zeros, flips. Other than there: channels are normalised by constants, not by the mean image.

    Command: caskit train --data runs/cifar10/real/train --recipe cifar-resnet56 --seed 0 --out runs/real
    Hardware and time: not measured; 8.2 million images, 28 min for a GPU that does 5,000 of them a second.
    Expected score: 92.58 % real top-1 in the paper (Ravuri & Vinyals 2019, table 4), 93.03 % in He et al.; not run yet.
    """
    return Recipe(
        name="cifar-resnet56",
        model="cifar-resnet56",
        resolution=32,
        channel_mean=CIFAR10_MEAN,
        channel_std=CIFAR10_STD,
        num_steps=64_000,
        batch_size=128,
        bn_batch=128,
        optimizer="momentum",
        learning_rate=0.1,
        weight_decay=1e-4,
        decayed="all",
        warmup=0.0,
        decay="steps",
        drops=(32_000, 48_000),
        flip="random",
        shift=4,
    )


def cas_resnet50() -> Recipe:
    """ResNet-50 on ImageNet by the paper's protocol at batch 1024 (Ravuri & Vinyals 2019, section 3 and appendix A).

    90 epochs, a line to 0.4 over 5 epochs, divided by 10 at 30, 60 and 80, as the code that its appendix names has it
    (tensorflow/tpu, models/official/resnet): Nesterov momentum 0.9, L2 of 1e-4 on everything but batch norms, no
    label smoothing, Inception's crops of 8 to 100 % (of which those below 10 % are drawn again), TensorFlow 1's bicubic
    to 224, flips; tests on the centre square of 87.5 %. Batch norms over 128 images, a TPU core's. Other than
    there: max pooling pads both sides, and the images are not rounded to bfloat16 before they are normalised.

    Command: torchrun --nproc-per-node 8 -m caskit train --data SET --recipe cas-resnet50 --seed 0 --out runs/real
    Hardware and time: not measured; 1.6 h if 8 GPUs do 2,500 images/s each and enough --workers feed them.
    Expected score: real top-1 (top-5) 68.82 (88.79) % for 128x128 images, 73.09 (91.47) % for 256x256; not run yet.
    """
    num_steps = 112_590  # 90 times 1,251, the code's default
    return Recipe(
        name="cas-resnet50",
        model="timm:resnet50",
        resolution=224,
        channel_mean=IMAGENET_MEAN,
        channel_std=IMAGENET_STD,
        num_steps=num_steps,
        batch_size=1024,
        bn_batch=128,
        optimizer="nesterov",
        learning_rate=0.4,
        weight_decay=1e-4,
        decayed="all-but-norms",
        initial="tf-resnet",
        warmup=5 * NUM_IMAGENET / 1024 / num_steps,
        decay="steps",
        drops=tuple(first_step(epochs, 1024) for epochs in (30, 60, 80)),
        crop="inception",
        interpolation="bicubic-tf1",
        flip="random",
        precision="bfloat16",
    )


def cas_resnet50_tpu128() -> Recipe:
    """ResNet-50 on ImageNet by the configuration that the paper links for 128 TPU cores (configs/cloud/v3-128.yaml).

    Another recipe than `cas-resnet50`: batch 16,384 for 7,116 steps, LARS with a line to 25 over 5 epochs and a square
    down, label smoothing 0.1, neither decay nor trust for biases and norms; the same network, crops and tests.

    Command: torchrun --nnodes 16 --nproc-per-node 8 -m caskit train --data SET --recipe cas-resnet50-tpu128 --out DIR
    Hardware and time: not measured; 6 min if 128 GPUs do 2,500 images/s each, and what 7,116 sums of 100 MB take.
    Expected score: not published for its own; batches 8,192 and 1,024 agree within 0.4 % in the paper. Not run yet.
    """
    num_steps = 7116
    return Recipe(
        name="cas-resnet50-tpu128",
        model="timm:resnet50",
        resolution=224,
        channel_mean=IMAGENET_MEAN,
        channel_std=IMAGENET_STD,
        num_steps=num_steps,
        batch_size=16_384,
        bn_batch=128,
        optimizer="lars",
        learning_rate=25.0,
        weight_decay=1e-4,
        initial="tf-resnet",
        warmup=5 * NUM_IMAGENET / 16_384 / num_steps,
        decay="quadratic",
        final_rate=1e-4,
        label_smoothing=0.1,
        crop="inception",
        interpolation="bicubic-tf1",
        flip="random",
        precision="bfloat16",
    )


def rsb_a3() -> Recipe:
    """ResNet-50 on ImageNet by procedure A3 of "ResNet strikes back" (Wightman et al. 2021, table 2); not the paper's.

    100 epochs at 160 pixels, tested at 224 on the centre 95 %: LAMB 8e-3, decay 0.02, cosine after 5 epochs of warm-up,
    batch 2048, binary cross entropy, mixup 0.1, cutmix 1, RandAugment 6/0.5. What the table leaves open is timm's, but
    for the warm-up, which begins at 0 as all of caskit's do.

    Command: torchrun --nproc-per-node 4 -m caskit train --data SET --recipe rsb-a3 --seed 0 --out runs/real
    Hardware and time: 15 h on 4 V100 of 16 GB in the source; not measured here.
    Expected score: 78.1 % real top-1 on ImageNet in the source (original images); not run yet.
    """
    return Recipe(
        name="rsb-a3",
        model="timm:resnet50",
        resolution=160,
        eval_resolution=224,
        eval_crop=0.95,
        channel_mean=IMAGENET_MEAN,
        channel_std=IMAGENET_STD,
        num_steps=100 * NUM_IMAGENET // 2048,
        batch_size=2048,
        bn_batch=512,
        optimizer="lamb",
        learning_rate=8e-3,
        weight_decay=0.02,
        warmup=0.05,
        decay="cosine",
        loss="binary",
        crop="uniform-area",
        flip="random",
        randaugment="rand-m6-mstd0.5-inc1",
        mixup=0.1,
        cutmix=1.0,
        precision="bfloat16",
    )


def imagenet_hour() -> Recipe:
    """ResNet-50 on ImageNet in an hour of one GPU, to try things out; not the paper's, and no score for its tables.

    18 epochs at 128 pixels, tested at 160 on the centre 95 %: Nesterov momentum 0.9 at 1.0 for batch 1024, decay 5e-5
    of weights alone, cosine after 2 epochs of warm-up, label smoothing 0.1, crops of 25 to 100 %, flips; large JPEGs
    are decoded at the size that their crops need. Chosen by rules of thumb (short trainings want milder crops and
    less decay), tuned by nobody.

    Command: caskit train --data SET --recipe imagenet-hour --workers 16 --seed 0 --out runs/real
    Hardware and time: not measured; 50 min for a GPU that does 7,650 images/s of 128 pixels, as one does that does
        2,500 of 224, and enough --workers to feed it.
    Expected score: real top-1 not known, as it was not run yet; below that of 90 epochs at 224 pixels in any case.
    """
    num_steps = 18 * NUM_IMAGENET // 1024
    return Recipe(
        name="imagenet-hour",
        model="timm:resnet50",
        resolution=128,
        eval_resolution=160,
        eval_crop=0.95,
        channel_mean=IMAGENET_MEAN,
        channel_std=IMAGENET_STD,
        num_steps=num_steps,
        batch_size=1024,
        bn_batch=256,
        optimizer="nesterov",
        learning_rate=1.0,
        weight_decay=5e-5,
        warmup=2 / 18,
        decay="cosine",
        label_smoothing=0.1,
        crop="uniform-area",
        crop_area=(0.25, 1.0),
        decode="reduced",
        flip="random",
        precision="bfloat16",
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "fashion-mnist": fashion_mnist,
    "digits": digits,
    "cifar-resnet56": cifar_resnet56,
    "cas-resnet50": cas_resnet50,
    "cas-resnet50-tpu128": cas_resnet50_tpu128,
    "rsb-a3": rsb_a3,
    "imagenet-hour": imagenet_hour,
}


def get_recipe(name: str) -> Recipe:
    """Return a preset by name. Raises InputError naming those there are."""
    if name not in RECIPES:
        raise InputError(f"recipe {name!r} is not known, use one of {', '.join(RECIPES)}")
    return RECIPES[name]()
