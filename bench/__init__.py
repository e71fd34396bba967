"""How fast is it? Figures that anyone can repeat, each with a floor measured in the same run."""
