"""The companion library of Session 4. It trains any network to classify handwritten digits."""

__version__ = "2.1.0"

from s4lib.data import Dataset, load
from s4lib.history import History
from s4lib.model import MNISTNet
from s4lib.receptive_field import receptive_fields
from s4lib.recipes import BEST, CLASSIC, FAST, Recipe
from s4lib.runtime import UsageError
from s4lib.train import evaluate, fit, predict
