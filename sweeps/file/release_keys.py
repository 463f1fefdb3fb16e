"""The keys of the official release and its relatives: where each goes, or why it has no place here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Keys of the release, and where their values go.
KEPT = {
    "DATASET.NUM_WORKERS": "data_workers",
    "SOLVER.BATCH_SIZE": "batch_size",
    "SOLVER.EPOCHS": "epochs",
    "SOLVER.LR": "optimizer.learning_rate",
    "SOLVER.WEIGHT_DECAY": "optimizer.weight_decay",
    "SOLVER.MOMENTUM": "optimizer.momentum",
}
# The same, for a trainer with two momenta.
OF_DOT = {"SOLVER.TRAINER": "optimizer.name", "SOLVER.DOT.DELTA": "optimizer.delta", "DOT.DELTA": "optimizer.delta"}
DOT_TRAINERS = ("dot", "crd_dot")
# Distillers whose loss has another name here. Without distillation, kd has weight 0.
LOSS_OF = {"kdas": "kd", "none": "kd", "dot": "kd", "mlld": "mlkd", "kd_ours": "mlkd"}
# Losses that read another distiller's block.
BLOCK_OF = {"mlkd": "KD"}
# Keys of a distiller's own block, if they are not named as the parameter is.
OF_DISTILLER = {
    "CE_WEIGHT": "ce_weight",
    "LOSS.CE_WEIGHT": "ce_weight",
    "LOSS.KD_WEIGHT": "kd_weight",
    "LOSS.FEAT_WEIGHT": "kd_weight",
    "REVIEWKD_WEIGHT": "kd_weight",
    "T": "loss.temperature",
    "WARMUP": "loss.warmup_epochs",
    "HINT_LAYER": "loss.layer",
    "FEAT.DIM": "loss.width",
    "NCE.K": "loss.num_negatives",
    "NCE.MOMENTUM": "loss.memory_momentum",
    "NCE.TEMPERATURE": "loss.temperature",
}
# Keys of a distiller whose value here is fixed, and that value. Others are read from the models, or by nobody.
FIXED: Mapping[str, Any] = {
    "CRD.MODE": "exact",
    "OFD.CONNECTOR.KERNEL_SIZE": 1,
    "REVIEWKD.STU_PREACT": False,
    "RKD.PDIST.EPSILON": 1e-12,
    "RKD.PDIST.SQUARED": False,
    "VID.EPS": 1e-5,
    "VID.INIT_PRED_VAR": 5.0,
}
READ_FROM_MODELS = {
    *("CRD.FEAT.STUDENT_DIM", "CRD.FEAT.TEACHER_DIM", "FITNET.INPUT_SIZE", "VID.INPUT_SIZE"),
    *(f"REVIEWKD.{key}" for key in ("SHAPES", "OUT_SHAPES", "IN_CHANNELS", "OUT_CHANNELS")),
}
LEFT_OUT = {
    "EXPERIMENT": "names a run; a sweep has the name of its file",
    "LOG": "a sweep keeps its own record",
    "DATASET.TEST": "changes no result",
    "SOLVER.TRAINER": "the sampler and the loss say what is trained on",
    "SOLVER.DOT.DELTA": "of another trainer",
    "REVIEWKD.MAX_MID_CHANNEL": "the release does not read it: it is 512",
}
# All other blocks are those of distillers.
BLOCKS = ("DATASET", "DISTILLER", "EXPERIMENT", "LOG", "SOLVER")

# What the relatives' code sets where a file does not, and ours does otherwise.
WEIGHTS_OF_RELATIVES = {"kd": {"ce_weight": 0.1, "kd_weight": 0.9}}
STAGES, DECAY_RATE, EPOCHS, WEIGHT_DECAY = [150, 180, 210], 0.1, 240, 1e-4
# What their code does, slips included, and ours only if asked.
OF_RELATIVES: Mapping[str, tuple[str, Any, str]] = {
    "mlkd": ("released_sum", True, "as the authors' code sums"),
    "vid": ("learned_variances", False, "the release forgets to train them"),
}

# The release's MobileNetV2 for ImageNet is the first version, and is called so in its later files.
IMAGENET_MODELS = {
    "MobileNetV1": "timm/mobilenetv1_100",
    "MobileNetV2": "timm/mobilenetv1_100",
    **{f"ResNet{depth}": f"torchvision/resnet{depth}" for depth in (18, 34, 50, 101, 152)},
}


def layers_of(model: str, loss: str) -> list[str]:
    """The layers of a network for ImageNet whose outputs are the release's maps, the first as the stem."""
    if model.startswith("torchvision/resnet"):
        return ["relu", "layer1", "layer2", "layer3", "layer4"]
    # The release takes the first stage for the stem, but not in reviewkd, which begins at the last one.
    return [*(["bn1"] if loss == "reviewkd" else []), "blocks.1", "blocks.2", "blocks.3", "blocks.4"]
