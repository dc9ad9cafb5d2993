"""What is compared, and what the ReVerteR paper prints for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scripts.errors import UserError
from scripts.paths import BUNDLE_ROOT

# (Dice, HD95, NSD) on VerSe-full and on VerSe-small.
Printed = tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class Model:
    """A row of a table.

    Args:
        name: on the command line and of its folder.
        title: in the tables.
        config: merged over ``configs/train.json``; none for the paper's own.
        printed: the paper's numbers (Tables 2 and 3), means of ten runs on VerSe; None where it has none.
    """

    name: str
    title: str
    config: str = ""
    printed: Printed | None = None

    @property
    def is_ablation(self) -> bool:
        """Whether it belongs to Table 3."""
        return self.config.startswith("configs/ablations/")


REFERENCE = "reverter"
CONFIGS = BUNDLE_ROOT / "configs"
_ALL = (
    Model("transvert", "TransVert", "", ((0.7743, 5.4480, 0.6718), (0.7647, 6.6468, 0.6094))),
    Model("bx2s", "BX2S-Net", "", ((0.7558, 6.2984, 0.6345), (0.7494, 7.5000, 0.5824))),
    Model("unet", "UNet (Kasten)", "", ((0.7712, 5.5935, 0.6691), (0.7582, 6.7097, 0.6160))),
    Model("swin_unetr", "SwinUNETR", "", ((0.7759, 5.2873, 0.6821), (0.7531, 6.9923, 0.5964))),
    Model("unetr", "UNETR", "", ((0.7584, 5.9160, 0.6546), (0.7421, 6.7891, 0.6012))),
    Model("attention_unet", "AttentionUnet", "", ((0.7696, 5.6788, 0.6660), (0.7535, 6.8888, 0.6085))),
    Model("onedconcat", "OneDConcat", "", ((0.7822, 5.0832, 0.6904), (0.7637, 6.6105, 0.6106))),
    Model("x2ct", "X2CT-GAN-inspired", "", ((0.7870, 4.4931, 0.7136), (0.7600, 6.5289, 0.6073))),
    Model("multiscale", "MultiScale2DPermuteConcat"),
    Model("swin_x2s", "Swin-X2S-style"),
)
_ABLATIONS = (
    Model("without_centroids", "Fusion of centroid (w/o)", "", ((0.7774, 5.2345, 0.6703), (0.7512, 7.3896, 0.5702))),
    Model("without_non_local", "Non-Local (w/o)", "", ((0.7800, 5.3749, 0.6763), (0.7492, 7.8278, 0.5681))),
    Model("without_dice", "Dice loss (w/o)", "", ((0.4991, 13.7402, 0.3261), (0.4574, 11.5412, 0.4144))),
    Model(
        "without_focal_hausdorff",
        "Focal + Hausdorff loss (w/o)",
        "",
        ((0.7852, 5.00988, 0.6896), (0.7557, 7.1701, 0.5823)),
    ),
    Model(
        "without_adversarial", "Adversarial learning (w/o)", "", ((0.7859, 5.0647, 0.6896), (0.7559, 7.3753, 0.5802))
    ),
)


def _further(kind: str) -> dict[str, Model]:
    """Models of the config folders that the lists above do not contain: a new file appears in the table."""
    known = {m.name for m in (*_ALL, *_ABLATIONS)}
    names = sorted(path.stem for path in (CONFIGS / kind).glob("*.json"))
    return {name: Model(name, name, f"configs/{kind}/{name}.json") for name in names if name not in known}


MODELS: dict[str, Model] = {
    **{m.name: Model(m.name, m.title, f"configs/baselines/{m.name}.json", m.printed) for m in _ALL},
    **_further("baselines"),
    **{m.name: Model(m.name, m.title, f"configs/ablations/{m.name}.json", m.printed) for m in _ABLATIONS},
    **_further("ablations"),
    REFERENCE: Model(REFERENCE, "ReVerteR (this bundle)", "", ((0.7938, 4.5836, 0.7182), (0.7685, 6.3129, 0.6198))),
}

# Table 4, seconds on an RTX 4090.
PRINTED_SECONDS: dict[str, float] = dict(
    zip(
        [f"C{n}" for n in range(1, 8)] + [f"T{n}" for n in range(1, 14)] + [f"L{n}" for n in range(1, 7)],
        (
            *(0.0756, 0.0739, 0.0732, 0.0819, 0.0954, 0.0783, 0.0782),
            *(0.0765, 0.0758, 0.0772, 0.0789, 0.0772, 0.0777, 0.0753, 0.0766, 0.0785, 0.0785, 0.0785, 0.0780, 0.0838),
            *(0.0788, 0.0796, 0.0775, 0.0801, 0.0770, 0.0849),
        ),
        strict=True,
    )
)
PRINTED_SPINE_SECONDS = 7.7204


def chosen(names: Sequence[str]) -> list[Model]:
    """Models by name; ``all``, ``baselines`` and ``ablations`` name groups, the two latter with the reference.

    Raises:
        UserError: no such model.
    """
    groups = {
        "all": list(MODELS),
        "baselines": [m.name for m in MODELS.values() if not m.is_ablation],
        "ablations": [m.name for m in MODELS.values() if m.is_ablation] + [REFERENCE],
    }
    wanted = [name for word in names for name in groups.get(word, [word])]
    unknown = sorted(set(wanted) - MODELS.keys())
    if unknown or not wanted:
        raise UserError(f"unknown model '{', '.join(unknown)}'; there are {', '.join([*groups, *MODELS])}")
    return [model for name, model in MODELS.items() if name in wanted]
