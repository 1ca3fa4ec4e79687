"""What is measured of a generation.  A probe is any `(key, view) -> array | dict`; these are frozen dataclasses."""

from simulator.probes.detection import Detection
from simulator.probes.diet import Diet
from simulator.probes.diversity import Diversity, Modes, Vendi
from simulator.probes.downstream import Downstream
from simulator.probes.exposure import Exposure
from simulator.probes.features import Learned, Pca, Stored
from simulator.probes.fidelity import Fidelity, Frechet, Kid, Manifold
from simulator.probes.generative import Generative
from simulator.probes.language import FreshPerplexity, Reader, SequencePerplexity, TextLoss
from simulator.probes.latents import Evidence, Latents
from simulator.probes.lineage import Lineage
from simulator.probes.masked import Masked
from simulator.probes.mauve import HashedNgrams, Mauve
from simulator.probes.memorisation import DietEntropy, Memorisation
from simulator.probes.paired import Captioning, Retrieval
from simulator.probes.parameters import Categories, LogDet, LogRate, Moments, Rate, Risk, Wasserstein
from simulator.probes.points import Centres, ExactWasserstein, Likelihood, Points, TrueLikelihood
from simulator.probes.robustness import Robustness
from simulator.probes.series import Stylised, Tails
from simulator.probes.spectrum import Spectrum
from simulator.probes.tables import Associations, Marginals, Mixed, RareKinds, Utility
from simulator.probes.tabular import Regression, Tabular
from simulator.probes.text import Compression, Perplexity, ReferencePerplexity, TextDiversity
from simulator.probes.verbatim import Verbatim
from simulator.probes.words import Lexicon

__all__ = [
    "Associations",
    "Captioning",
    "Categories",
    "Centres",
    "Compression",
    "Detection",
    "Diet",
    "DietEntropy",
    "Diversity",
    "Downstream",
    "Evidence",
    "ExactWasserstein",
    "Exposure",
    "Fidelity",
    "Frechet",
    "FreshPerplexity",
    "Generative",
    "HashedNgrams",
    "Kid",
    "Latents",
    "Learned",
    "Lexicon",
    "Likelihood",
    "Lineage",
    "LogDet",
    "LogRate",
    "Manifold",
    "Marginals",
    "Masked",
    "Mauve",
    "Memorisation",
    "Mixed",
    "Modes",
    "Moments",
    "Pca",
    "Perplexity",
    "Points",
    "RareKinds",
    "Rate",
    "Reader",
    "ReferencePerplexity",
    "Regression",
    "Retrieval",
    "Risk",
    "Robustness",
    "SequencePerplexity",
    "Spectrum",
    "Stored",
    "Stylised",
    "Tabular",
    "Tails",
    "TextDiversity",
    "TextLoss",
    "TrueLikelihood",
    "Utility",
    "Vendi",
    "Verbatim",
    "Wasserstein",
]
