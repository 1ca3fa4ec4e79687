"""Models that eat a weighted pool and write rows: one file each."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from generators.archive import Archive as Archive
    from generators.autoregressive import Autoregressive as Autoregressive
    from generators.bernoulli import Bernoulli as Bernoulli
    from generators.categorical import Categorical as Categorical
    from generators.cohort import Cohort as Cohort
    from generators.copula import Copula as Copula
    from generators.corrected import Corrected as Corrected
    from generators.diffusion import Diffusion as Diffusion
    from generators.edited import Edited as Edited
    from generators.exponential import Exponential as Exponential
    from generators.flow import Flow as Flow
    from generators.gan import GAN as GAN
    from generators.garch import Garch as Garch
    from generators.gaussian import Gaussian as Gaussian
    from generators.kde import KDE as KDE
    from generators.linear import Linear as Linear
    from generators.logistic import Logistic as Logistic
    from generators.mixture import Mixture as Mixture
    from generators.ngram import Ngram as Ngram
    from generators.per_class import PerClass as PerClass
    from generators.poisson import Poisson as Poisson
    from generators.prompted import Prompted as Prompted
    from generators.recommender import Recommender as Recommender
    from generators.self_improved import SelfImproved as SelfImproved
    from generators.society import Society as Society
    from generators.table_diffusion import TableDiffusion as TableDiffusion
    from generators.transformer import Transformer as Transformer
    from generators.tvae import TVAE as TVAE
    from generators.vae import VAE as VAE
    from generators.watermarked import Watermarked as Watermarked


def __getattr__(name: str) -> Any:
    """`from generators import Name` finds the class in the file of its name, and imports that file only."""
    file = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()  # PerClass is in per_class.py
    try:
        return getattr(importlib.import_module(f"generators.{file}"), name)
    except ModuleNotFoundError as error:
        if error.name == f"generators.{file}":
            raise AttributeError(f"there is no generator '{name}'") from None
        raise
