"""The inputs of a model: their dynamic dimensions, sizes at which the model runs, values that fit."""
