"""Small networks trained on emulated instructions: what a format, a rounding or an accumulator does to learning.

`train("digits", "fp8")` trains one; a recipe says how every product is done, forward and backward.
"""

from .casts import Blocks, Cast, Hadamard, Integers, Operand, Plain, Scaled, StraightThrough, TernaryNoise, Where
from .diagnose import Counts, Statistics, compare, depth, figure, knobs, sensitivity, table
from .models import MLP, Transformer
from .optimizers import SGD, AdamW
from .products import Products
from .recipes import RECIPES, Gemm, Recipe
from .training import TASKS, Run, Task, generate, train
from .units import unit_for

__all__ = ["MLP", "RECIPES", "SGD", "TASKS", "AdamW", "Blocks", "Cast", "Counts", "Gemm", "Hadamard", "Integers",
           "Operand", "Plain", "Products", "Recipe", "Run", "Scaled", "Statistics", "StraightThrough",
           "Task", "TernaryNoise", "Transformer", "Where", "compare", "depth", "figure", "generate",
           "knobs", "sensitivity", "table", "train", "unit_for"]
