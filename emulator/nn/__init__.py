"""Small networks trained on emulated instructions: what a format, a rounding or an accumulator does to learning.

`train("digits", "fp8")` trains one; a recipe says how every product is done, forward and backward.
"""

from .casts import Cast, Operand, Plain, Scaled
from .models import MLP, Transformer
from .optimizers import SGD, AdamW
from .products import Products, unit_for
from .recipes import RECIPES, Gemm, Recipe
from .training import TASKS, Run, Task, generate, train

__all__ = ["MLP", "RECIPES", "SGD", "TASKS", "AdamW", "Cast", "Gemm", "Operand", "Plain", "Products", "Recipe", "Run",
           "Scaled", "Task", "Transformer", "generate", "train", "unit_for"]
